"""Reference log-probabilities of real tasks: the engine beside a plain padded forward, in one run.

    python -m tests.bench_scoring FILE.csv [--tasks 48] [--pairs 5] [--batch 32] [--sampled]

FILE has the columns prompt and reference; an instruction behind the question is stripped. A task
is left out where its prompt, the longest attempt and its reference do not fit the tiny base's
context; nothing is cut. Per task the reference is scored under 8 different reasonings and under
none, as a verifier asks. Reasonings are pieces of other tasks' references, of 16 tokens to the
longest attempt, or what the base itself samples, which on such tasks is a few tokens.

The plain side does what one would write first: rows in order, padded to the longest of their batch,
logits of every position, log_softmax, gather. Both read the same rows in float32, as a run's proxy
does, by turns; tokens are those of the rows without padding. Numbers that differ by more than 1e-4
end the run.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from agents.prompts import Prompts
from flows.assemble import TINY
from pipeline.config import TagsConfig
from pipeline.engine.local import LocalEngine
from pipeline.models.policy import end_ids, load_policy, longest_row, replica
from pipeline.ports import SampleRequest, ScoreRequest

GROUP, SHORTEST, ATTEMPT = 8, 16, 96
Tokens = tuple[int, ...]
Scored = list[tuple[float, ...]]


@dataclass(frozen=True)
class Base:
    """The tiny base twice, the same weights: as it is and in an engine."""

    model: PreTrainedModel
    engine: LocalEngine
    prompts: Prompts
    context: int


def tiny_base() -> Base:
    model, tokenizer = load_policy(str(TINY), dtype=torch.float32, device="cpu")
    model.train(False)
    ends = end_ids(model, tokenizer)
    engine = LocalEngine(
        replica(model, torch.float32, "cpu"),
        eos_ids=ends,
        pad_id=tokenizer.pad_token_id,
        version="bench@0",
    )
    return Base(model, engine, Prompts(tokenizer, TagsConfig(), "plain"), longest_row(model))


def fitting(path: Path, base: Base) -> tuple[list[tuple[Tokens, Tokens]], int]:
    """Prompt and reference of each task that fits, and how many tasks there were."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        question = row["prompt"].split("\n\nAnswer the question and return")[0].strip()
        prompt = base.prompts.attempt(question.removeprefix("Question:").strip())
        reference = base.prompts.closed_reference(row["reference"].strip())
        if len(prompt) + ATTEMPT + len(base.prompts.open_answer) + len(reference) <= base.context:
            found.append((prompt, reference))
    return found, len(rows)


def requests_of(
    tasks: list[tuple[Tokens, Tokens]], reasonings: list[list[Tokens]], base: Base
) -> list[ScoreRequest]:
    """What a verifier asks: the reference under no reasoning and under each of its own."""
    requests = []
    for (prompt, reference), own in zip(tasks, reasonings, strict=True):
        contexts = tuple(before + base.prompts.open_answer for before in [(), *own])
        requests.append(ScoreRequest(prompt, contexts, ((reference,),) * len(contexts)))
    return requests


def made(tasks: list[tuple[Tokens, Tokens]], base: Base) -> list[list[Tokens]]:
    """Per task, pieces of the tasks' references as reasonings."""
    rng = random.Random(1)
    words = [token for _, reference in tasks for token in reference[:-1]]
    opened, closed = base.prompts.reasoning("x")[0], base.prompts.reasoning("x")[-1]

    def one() -> Tokens:
        length = rng.randint(SHORTEST, ATTEMPT) - 2 - len(base.prompts.open_answer)
        start = rng.randrange(len(words) - length)
        return (opened, *words[start : start + length], closed)

    return [[one() for _ in range(GROUP)] for _ in tasks]


def sampled(tasks: list[tuple[Tokens, Tokens]], base: Base) -> list[list[Tokens]]:
    """Per task, what the base samples, up to where it opens its answer."""
    asked = [
        SampleRequest(prompt, tuple(range(i * GROUP, (i + 1) * GROUP)))
        for i, (prompt, _) in enumerate(tasks)
    ]
    tag = base.prompts.open_answer[0]
    return [
        [s.tokens[: s.tokens.index(tag)] if tag in s.tokens else s.tokens for s in group]
        for group in base.engine.sample(asked, max_tokens=ATTEMPT, temperature=1.0)
    ]


def ours(base: Base, requests: list[ScoreRequest]) -> Scored:
    return [row[0] for scores in base.engine.score(requests) for row in scores]


@torch.inference_mode()
def plain(base: Base, rows: list[tuple[Tokens, int]], batch: int) -> Scored:
    """rows: all tokens of a row, and how many of its last are the reference's."""
    found: Scored = []
    pad = base.prompts.tokenizer.pad_token_id
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        width = max(len(tokens) for tokens, _ in part)
        ids = torch.tensor([t + (pad,) * (width - len(t)) for t, _ in part])
        mask = torch.tensor([(1,) * len(t) + (0,) * (width - len(t)) for t, _ in part])
        logits = base.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        logs = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0]
        for row, (tokens, last) in zip(logs.tolist(), part, strict=True):
            found.append(tuple(row[len(tokens) - 1 - last : len(tokens) - 1]))
    return found


def timed(side: Callable[[], Scored]) -> tuple[float, Scored]:
    start = time.perf_counter()
    scores = side()
    return time.perf_counter() - start, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--tasks", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32, help="rows of a plain forward")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sampled", action="store_true", help="reasonings are the base's own")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = tiny_base()
    tasks, there = fitting(args.file, base)
    asked = tasks[: args.tasks]
    requests = requests_of(asked, (sampled if args.sampled else made)(asked, base), base)
    rows = [
        (request.prompt + context + targets[0], len(targets[0]))
        for request in requests
        for context, targets in zip(request.contexts, request.targets, strict=True)
    ]
    tokens, wanted = sum(len(row) for row, _ in rows), sum(last for _, last in rows)
    print(
        f"{len(tasks)} of {there} tasks fit {base.context} tokens; {len(requests)} of them, "
        f"{len(rows)} rows, {tokens} tokens, {wanted} of them scored"
    )
    ratios, gap = [], 0.0
    for pair in range(args.pairs + 1):
        mine, scores = timed(lambda: ours(base, requests))
        theirs, expected = timed(lambda: plain(base, rows, args.batch))
        both = zip(scores, expected, strict=True)
        gap = max([gap, *(abs(a - b) for s, e in both for a, b in zip(s, e, strict=True))])
        if gap > 1e-4:
            raise SystemExit(f"the sides differ by {gap}")
        if pair:  # the first warms both up
            ratios.append(theirs / mine)
            print(
                f"engine {tokens / mine:7.0f} tok/s ({mine:.2f} s)   "
                f"plain {tokens / theirs:7.0f} tok/s ({theirs:.2f} s)   ratio {ratios[-1]:.2f}"
            )
    print(
        f"ratio: median {statistics.median(ratios):.2f}, lowest {min(ratios):.2f}; "
        f"numbers differ by {gap:.1e} at most"
    )


if __name__ == "__main__":
    main()
