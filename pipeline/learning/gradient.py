"""A planned step's gradient, gathered over micro-batches and over the processes that take it.

The loss of a role over a whole step, R the tokens of its answer branches:

    mean of (w * surrogate(r, A) + kl * divergence) + answer_term * sum of -w * log p(reference) / R

with r = 1 in value for rollouts of the present weights (exactly on policy) and r against the
sampler's log-probabilities for stale ones; w corrects for the sampler's arithmetic, and is 1
unless asked for. The mean is the one that objective.aggregate names (`objective_config`).

T, the written tokens of the step, R and the number of rollouts are counted before the step is
split into micro-batches, so the split changes memory and speed alone, and so do processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from pipeline.batch import MicroBatch, Plan, pack
from pipeline.config import GeneratorConfig, RunConfig, SolverConfig
from pipeline.learning.trainee import Trainee
from pipeline.objectives import DIVERGENCES, answer_nll, correction
from pipeline.ports import NonFinite
from pipeline.surrogates import SURROGATES, WHOLE_GROUPS, Slots, surrogate_of
from pipeline.types import Role, UpdateStats


def gather(trainee: Trainee, plans: Mapping[Role, Plan], config: RunConfig) -> UpdateStats:
    """Gather one line's clipped gradient, without a step; figures are of the whole step.

    Raises NonFinite, in every process alike, when a loss or a gradient is not finite.
    """
    gathering = _Gathering(trainee, config)
    for role, share in plans.items():
        gathering.add(role, share, config.generator.weight if len(plans) > 1 else 1.0)
    return finite(trainee, gathering.finish(plans))


class _Gathering:
    """What one line's step adds up.

    terms    policy, divergence, answer: already over their denominators
    counted  sums over policy slots: clips that acted, entropy, |trainer - sampler|; then how many
             slots and rows there were
    """

    def __init__(self, trainee: Trainee, config: RunConfig) -> None:
        self.trainee, self.config = trainee, config
        self.terms = torch.zeros(3, dtype=torch.float64, device=trainee.team.device)
        self.counted = torch.zeros(5, dtype=torch.float64, device=trainee.team.device)

    def add(self, role: Role, share: Plan, weight: float) -> None:
        """Forward and backward over this process's micro-batches of a role.

        weight  of the generator's loss, where it shares weights with the solver's
        """
        trainee, objective = self.trainee, self.config.objective
        own, idle = trainee.share(
            share.rows, whole_groups=surrogate_of(objective, role) in WHOLE_GROUPS
        )
        for part in own:
            packed = pack([share.rows[index] for index in part])
            batch = packed.on(trainee.team.device, trainee.held.dtype)
            terms = self._terms(batch, role)
            scale = weight if role == "generator" else 1.0
            terms = scale * terms / self._denominators(share, role)
            trainee.held.backward((terms * self._coefficients(terms)).sum())
            self.terms += terms.detach()
            self.counted[3:] += self.counted.new_tensor([batch.policy_slots, batch.rows])
        for _ in range(idle):
            trainee.held.idle(start=objective.kl > 0, learn=True)

    def finish(self, plans: Mapping[Role, Plan]) -> UpdateStats:
        """Clip the whole step's gradient, and say what the step did."""
        self.trainee.team.add([self.terms, self.counted])
        policy, divergence, answer = self.terms.tolist()
        slots, rows = map(int, self.counted[3:].tolist())
        clips, entropy, mismatch = (self.counted[:3] / max(slots, 1)).tolist()
        return UpdateStats(
            loss=float((self.terms * self._coefficients(self.terms)).sum()),
            policy_loss=policy,
            answer_loss=answer,
            kl=divergence,
            grad_norm=self.trainee.clip() if rows else 0.0,
            clipped=clips,
            entropy=entropy,
            mismatch=mismatch,
            tokens=slots,
            rows=rows,
            dead_groups=sum(share.dead_groups for share in plans.values()),
            unspliced=sum(share.unspliced for share in plans.values()),
        )

    def _terms(self, batch: MicroBatch, role: Role) -> Tensor:
        """Sums over the micro-batch's slots: policy, divergence, answer."""
        objective, slots = self.config.objective, batch.policy_slots
        temperature = self._sampled_by(role).temperature
        logprobs, entropy = self.trainee.held.score(batch, temperature)
        policy, answer = logprobs[:slots], logprobs[slots:]
        now = policy.detach()
        old = torch.where(batch.stale, batch.sampled, now)
        own = Slots(
            policy,
            old,
            batch.sampled,
            batch.advantages,
            batch.owner,
            batch.rows,
            batch.groups,
            batch.rewards,
        )
        loss, acted = SURROGATES[surrogate_of(objective, role)](own, objective)
        if objective.correction != "none":  # stale rollouts have old = sampled: a weight of 1
            kind, cap = objective.correction, objective.correction_cap
            loss = loss * correction(old, batch.sampled, batch.owner, batch.rows, kind, cap)
        divergence = policy.new_zeros(())
        if objective.kl > 0:
            start = self.trainee.held.score_start(batch, temperature)[:slots]
            divergence = self._sum(DIVERGENCES[objective.divergence](policy, start), batch)
        apart = (now - batch.sampled).abs()
        self.counted[:3] += torch.stack([acted.sum(), entropy.sum(), apart.sum()])
        nll = answer_nll(answer, batch.weights).sum()
        return torch.stack([self._sum(loss, batch), divergence, nll])

    def _sum(self, losses: Tensor, batch: MicroBatch) -> Tensor:
        """Over all slots; under "sequence" each slot counts a share of its rollout's tokens."""
        if self.config.objective.aggregate != "sequence":
            return losses.sum()
        counts = torch.bincount(batch.owner, minlength=batch.rows)
        return (losses / counts[batch.owner]).sum()

    def _denominators(self, share: Plan, role: Role) -> Tensor:
        """What the policy, divergence and answer terms of the whole step are divided by."""
        whole = {
            "token": share.written,
            "sequence": share.rollouts,
            "budget": share.rollouts * self._sampled_by(role).max_tokens,
            "sum": share.rollouts,
        }[self.config.objective.aggregate]
        summed = self.config.objective.aggregate == "sum"
        answers = share.rollouts if summed else share.reference_tokens
        counts = [max(whole, 1), max(whole, 1), max(answers, 1)]
        return torch.tensor(counts, dtype=torch.float32, device=self.terms.device)

    def _sampled_by(self, role: Role) -> SolverConfig | GeneratorConfig:
        return self.config.solver if role == "solver" else self.config.generator

    def _coefficients(self, like: Tensor) -> Tensor:
        return like.new_tensor([1.0, self.config.objective.kl, self.config.objective.answer_term])


def finite(trainee: Trainee, stats: UpdateStats) -> UpdateStats:
    """The figures, or NonFinite where one of them is not finite."""
    odd = {name: value for name, value in asdict(stats).items() if not math.isfinite(value)}
    if odd:
        raise NonFinite(
            f"{trainee.line}: {odd} over {stats.rows} rows; weights stay at {trainee.version.id}"
        )
    return stats
