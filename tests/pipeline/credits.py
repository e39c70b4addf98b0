"""Credited groups written by hand, for tests of what is learned from them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.batch import Splice
from pipeline.config import RunConfig
from pipeline.learning.learner import PolicyLearner
from pipeline.types import (
    Credited,
    Evidence,
    Group,
    Judged,
    ProposalEvidence,
    Role,
    Rollout,
    Task,
    Transcript,
    UpdateStats,
)

OPEN, CLOSE = 40, 41  # the answer tag of these tests, one token each
Tokens = tuple[int, ...]


def reference_ids(task: Task) -> Tokens:
    """The reference "7 8" as the tokens 7, 8 and the closing tag."""
    return (*map(int, task.reference.split()), CLOSE)


def behind(rollout: Rollout) -> int | None:
    """The index behind the first opening tag that was written."""
    written = zip(rollout.tokens, rollout.written, strict=True)
    return next((i + 1 for i, (t, wrote) in enumerate(written) if wrote and t == OPEN), None)


SPLICE = Splice(behind, reference_ids)


def rollout(
    prompt: Tokens, completion: Tokens, version: str = "solver@0", logprobs: Sequence[float] = ()
) -> Rollout:
    return Rollout(
        id=f"{prompt}-{completion}",
        tokens=prompt + completion,
        written=(False,) * len(prompt) + (True,) * len(completion),
        logprobs=(0.0,) * len(prompt) + (tuple(logprobs) or (-1.0,) * len(completion)),
        completion="",
        stop="end",
        seed=0,
        version=version,
    )


def credited(
    rollouts: Sequence[Rollout],
    advantages: Sequence[float],
    weights: Sequence[float] = (),
    role: Role = "solver",
    reference: str = "7 8",
) -> Credited:
    """A group whose rollouts were all kept; no weights means none."""
    task = Task("t", "question", reference, "human")
    count = len(rollouts)
    evidence: tuple[Evidence, ...] | tuple[ProposalEvidence, ...] = (
        Evidence("measured", "proxy@0"),
    ) * count
    if role == "generator":
        evidence = (ProposalEvidence("admitted"),) * count
    group = Group(
        f"{role}-{rollouts[0].id}", role, task, tuple(rollouts), (Transcript("ok"),) * count
    )
    judged = Judged(group, evidence, tuple(range(count)), (0.0,) * count)
    return Credited(judged, tuple(advantages), tuple(weights) or (0.0,) * count)


def random_groups(
    seed: int = 0, groups: int = 3, size: int = 3, role: Role = "solver"
) -> list[Credited]:
    """Groups of random tokens below 40, each completion with an answer block and a weight."""
    rng = random.Random(seed)
    made = []
    for number in range(groups):
        prompt = tuple(rng.randrange(2, 40) for _ in range(rng.randrange(2, 9)))
        texts = [(*_some(rng, 1, 9), OPEN, *_some(rng, 1, 4), CLOSE, 1) for _ in range(size)]
        advantages = [rng.gauss(0, 1) for _ in texts]
        weights = [rng.random() if role == "solver" else 0.0 for _ in texts]
        reference = " ".join(str(token) for token in _some(rng, 1, 5))
        rows = [rollout(prompt, text) for text in texts]
        made.append(credited(rows, advantages, weights, role, f"{reference}{' 9' * (number % 2)}"))
    return made


def config(**sections: Mapping[str, object]) -> RunConfig:
    """In float32, with one step size and no clipping of gradients, unless asked for."""
    plain: dict[str, Mapping[str, object]] = {
        "model": {"train_dtype": "float32"},
        "learner": {"warmup": 0, "final_share": 1.0, "max_grad_norm": 1e9},
    }
    for name, values in sections.items():
        plain[name] = {**plain.get(name, {}), **values}
    return RunConfig.model_validate(plain)


def gradients(
    learner: PolicyLearner, groups: Sequence[Credited], folder: Path
) -> tuple[dict[str, Tensor], UpdateStats]:
    """The first step's gradient, read from AdamW's first moment in a checkpoint."""
    stats = learner.step(groups, step=1)["solver"]
    folder.mkdir()
    learner.save(folder)
    moments = load_file(folder / "solver.moments.safetensors")
    kept = 1.0 - learner.config.learner.betas[0]
    prefix = "exp_avg."
    found = {
        key.removeprefix(prefix): value / kept
        for key, value in moments.items()
        if key.startswith(prefix)
    }
    return found, stats


def distance(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float:
    """Norm of the difference of two gradients over the norm of the second."""
    assert left.keys() == right.keys()
    flat = [
        torch.cat([side[name].flatten().double() for name in sorted(right)])
        for side in (left, right)
    ]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


def plain_logprobs(model: nn.Module, tokens: Tokens, temperature: float = 1.0) -> Tensor:
    """log p of tokens[1:] by a forward pass over this row alone."""
    logits = model(input_ids=torch.tensor([tokens])).logits[0, :-1].float() / temperature
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]


def _some(rng: random.Random, least: int, most: int) -> Tokens:
    return tuple(rng.randrange(2, 40) for _ in range(rng.randint(least, most)))
