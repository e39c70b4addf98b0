"""From prompts to parsed groups: what solver and generator share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.prompts import Prompts
from pipeline.ports import Engine, Sample, SampleRequest
from pipeline.text.transcript import Blocks, parse
from pipeline.types import Group, Role, Rollout, Task


@dataclass(frozen=True, slots=True)
class Ask:
    """What to sample: one prompt per task, one seed per completion, an id per group."""

    role: Role
    blocks: Blocks
    tasks: Sequence[Task]
    prompts: Sequence[tuple[int, ...]]
    seeds: Sequence[Sequence[int]]
    ids: Sequence[str]


def sample_groups(
    engine: Engine, prompts: Prompts, ask: Ask, *, max_tokens: int, temperature: float
) -> list[Group]:
    """Sample every group of `ask` in one call and parse each completion."""
    requests = [SampleRequest(p, tuple(s)) for p, s in zip(ask.prompts, ask.seeds, strict=True)]
    version = engine.version
    sampled = engine.sample(requests, max_tokens=max_tokens, temperature=temperature)
    groups = []
    for task, request, samples, group_id in zip(ask.tasks, requests, sampled, ask.ids, strict=True):
        rollouts = tuple(
            _rollout(f"{group_id}-g{i}", request, i, sample, prompts, version)
            for i, sample in enumerate(samples)
        )
        transcripts = tuple(
            parse(r.completion, ask.blocks, truncated=r.stop == "length") for r in rollouts
        )
        groups.append(Group(group_id, ask.role, task, rollouts, transcripts))
    return groups


def _rollout(
    name: str, request: SampleRequest, i: int, sample: Sample, prompts: Prompts, version: str
) -> Rollout:
    read = len(request.prompt)
    text = sample.tokens[:-1] if sample.stop == "end" else sample.tokens
    return Rollout(
        id=name,
        tokens=request.prompt + sample.tokens,
        written=(False,) * read + (True,) * len(sample.tokens),
        logprobs=(0.0,) * read + sample.logprobs,
        completion=prompts.decode(text),
        stop=sample.stop,
        seed=request.seeds[i],
        version=version,
    )
