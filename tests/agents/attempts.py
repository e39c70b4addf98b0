"""Attempts written by hand, and the tools of meters over an engine that answers from a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agents.prompts import Prompts
from agents.verifiers.tools import Tools
from pipeline.config import TagsConfig, VerifierConfig
from pipeline.engine.local import LocalEngine
from pipeline.engine.scripted import Tokens
from pipeline.ports import Engine
from pipeline.text.transcript import parse
from pipeline.types import Group, Reading, Rollout, Task
from tests.tiny import tiny_model, tiny_tokenizer

END = 1
PROMPTS = Prompts(tiny_tokenizer(), TagsConfig(), "plain")
TASK = Task("seed-1", "2 + 2?", "4", "human")


def silent(prompt: Tokens, seed: int) -> Tokens:
    raise AssertionError("nothing is to be sampled")


def weighing(weigh: Callable[[str, str], float]) -> Callable[[Tokens, Tokens], tuple[float, ...]]:
    """The log-probability of every target token from the texts before it and of it."""
    return lambda before, target: (
        (weigh(PROMPTS.decode(before), PROMPTS.decode(target)),) * len(target)
    )


def tools(proxy: Engine, **more: object) -> Tools:
    """Everything asked of `proxy`, unless told otherwise."""
    found = Tools(proxy, proxy, lambda: proxy, PROMPTS, VerifierConfig(), 300, 5, 40)
    return replace(found, **more)


def attempted(*said: str, task: Task = TASK, prompts: Prompts = PROMPTS) -> Group:
    """A group whose rollouts say this, each with an end token."""
    asked = prompts.attempt(task.question)
    rollouts = []
    for i, text in enumerate(said):
        written = (*prompts.tokenizer.encode(text, add_special_tokens=False), END)
        marks = (False,) * len(asked) + (True,) * len(written)
        rollouts.append(
            Rollout(
                f"g-{i}", asked + written, marks, (0.0,) * len(marks), text, "end", i, "solver@3"
            )
        )
    parsed = tuple(parse(text, prompts.attempt_blocks, truncated=False) for text in said)
    return Group("g", "solver", task, tuple(rollouts), parsed)


def said(reasoning: str, answer: str) -> str:
    return f"<think>{reasoning}</think><answer>{answer}</answer>"


def values(readings: Sequence[Reading]) -> list[tuple[float, ...]]:
    return [one.values for one in readings]


def local(seed: int = 0) -> LocalEngine:
    return LocalEngine(
        tiny_model(seed, vocab=264), eos_ids=frozenset({END}), pad_id=0, version=f"solver@{seed}"
    )
