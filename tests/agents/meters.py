"""Groups for meters: attempts as they would have been sampled, from what they say."""

from __future__ import annotations

from agents.prompts import Prompts
from pipeline.config import TagsConfig
from pipeline.text.transcript import Blocks, parse
from pipeline.types import Group, Rollout, Task
from tests.tiny import tiny_tokenizer

BLOCKS = Blocks("think", "answer")
END = 1


def prompts() -> Prompts:
    return Prompts(tiny_tokenizer(), TagsConfig(), "plain")


def said(answer: str, reasoning: str = "so") -> str:
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def group(*completions: str, reference: str = "4", name: str = "g0") -> Group:
    """One solver group of these completions, each ended, in tokens of the byte tokenizer."""
    tokenizer = tiny_tokenizer()
    read = (5, 6, 7)
    rollouts = []
    for i, text in enumerate(completions):
        wrote = (*tokenizer.encode(text, add_special_tokens=False), END)
        written = (False,) * len(read) + (True,) * len(wrote)
        rollouts.append(
            Rollout(
                f"{name}-g{i}", read + wrote, written, (0.0,) * len(written), text, "end", i, "s@0"
            )
        )
    parsed = tuple(parse(text, BLOCKS, truncated=False) for text in completions)
    return Group(name, "solver", Task("t", "Q?", reference, "human"), tuple(rollouts), parsed)
