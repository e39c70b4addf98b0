"""Credited groups in, one optimiser step out: GRPO's family with VeriFree's answer term.

The loss of a role over a whole step, R the tokens of its answer branches:

    mean of (w * surrogate(r, A) + kl * divergence) + answer_term * sum of -w * log p(reference) / R

with r = 1 in value for rollouts of the present weights (exactly on policy) and r against the
sampler's log-probabilities for stale ones; w corrects for the sampler's arithmetic, and is 1
unless asked for. The mean is the one that objective.aggregate names (`objective_config`).

T, the written tokens of the step, R and the number of rollouts are counted before the step is
split into micro-batches, so the split changes memory and speed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.batch import MicroBatch, Plan, Splice, micro_batches, plan
from pipeline.config import GeneratorConfig, RunConfig, SolverConfig
from pipeline.objectives import DIVERGENCES, answer_nll, correction
from pipeline.ports import NonFinite
from pipeline.student import gather
from pipeline.surrogates import EVERY_ROW, SURROGATES, WHOLE_GROUPS, Slots, surrogate_of
from pipeline.trainee import Trainee
from pipeline.types import Credited, Judged, Line, Role, UpdateStats, Version

Publish = Callable[[Mapping[str, Tensor], str], None]
RANDOM = "random.safetensors"


@dataclass(slots=True)
class _Sums:
    """What one line's step adds up; terms are policy, kl, answer: already over their denominators.

    counted  sums over policy slots: clips that acted, entropy, |trainer - sampler|
    """

    terms: Tensor
    counted: Tensor
    slots: int = 0
    rows: int = 0
    dead: int = 0
    unspliced: int = 0

    @classmethod
    def on(cls, device: torch.device) -> _Sums:
        zeros = torch.zeros(3, dtype=torch.float64, device=device)
        return cls(zeros, zeros.clone())


class PolicyLearner:
    """Fills the Learner and Saved ports.

    models      line -> a transformers causal LM with float32 weights, or one in LoRA adapters.
                Under config.model.generator "shared" the line "solver" alone, serving both roles;
                under "own" also "generator"
    splice      how references are put behind sampled reasoning, where one carries loss
    publish_to  line -> what takes its weights (LoRA merged) and version, such as an engine's `load`

    A frozen role's groups are not in the loss; a line none of whose roles trains keeps its version.
    Every other line's version grows with each step, also where all its groups were dead.
    """

    def __init__(
        self,
        models: Mapping[Line, nn.Module],
        config: RunConfig,
        splice: Splice,
        publish_to: Mapping[Line, Publish],
    ) -> None:
        asked: set[Line] = (
            {"solver"} if config.model.generator == "shared" else {"solver", "generator"}
        )
        if set(models) != asked:
            raise ValueError(
                f"model.generator is {config.model.generator!r}, which needs the models "
                f"{sorted(asked)}; got {sorted(models)}"
            )
        self.config = config
        self.publish_to = publish_to
        self._splice = splice
        self._answers = splice if config.objective.answer_term > 0 else None
        self._trainees = {line: Trainee(line, models[line], config) for line in sorted(models)}
        self._roles = {line: _roles(line, config) for line in self._trainees}

    def versions(self) -> dict[Line, Version]:
        """The versions now in training, by line."""
        return {line: trainee.version for line, trainee in self._trainees.items()}

    def publish(self) -> None:
        """Hand every line's weights to who asked for them."""
        for line, take in self.publish_to.items():
            take(self.state(line), self._trainees[line].version.id)

    def state(self, line: Line) -> Mapping[str, Tensor]:
        """Full float32 weights of a line, LoRA merged; shared with the model, so copy to keep."""
        return self._trainees[line].state()

    def step(self, credited: Sequence[Credited], *, step: int) -> dict[Line, UpdateStats]:
        """One optimiser step of every line in training, with one denominator per role.

        Raises NonFinite when a loss or a gradient is not finite: then no line has changed.
        """
        for trainee in self._trainees.values():
            trainee.discard()  # what a refused step may have left
        stats = {
            line: self._gradients(self._trainees[line], roles, credited)
            for line, roles in self._roles.items()
            if roles
        }
        for line, update in stats.items():
            if update.rows:
                self._trainees[line].apply()
            self._trainees[line].advance(step)
        return stats

    def study(self, judged: Sequence[Judged], *, step: int) -> dict[Line, UpdateStats]:
        """One optimiser step of the solver's line from stored groups, by the offline objective.

        Raises NonFinite when a loss or a gradient is not finite: then the line has not changed.
        """
        trainee = self._trainees["solver"]
        trainee.discard()
        stats = _finite(trainee, gather(trainee, judged, self.config, self._splice))
        if stats.rows:
            trainee.apply()
        trainee.advance(step)
        return {"solver": stats}

    def _gradients(
        self, trainee: Trainee, roles: Sequence[Role], credited: Sequence[Credited]
    ) -> UpdateStats:
        """Gather one line's clipped gradient, without a step."""
        sums = _Sums.on(trainee.model.device)
        for role in roles:
            own = [c for c in credited if c.judged.group.role == role]
            share = plan(own, self._answers, trainee.version.id, every=self._reads_every_row(role))
            self._gather(trainee, role, share, sums)
        return _finite(trainee, self._stats(sums, trainee.clip() if sums.rows else 0.0))

    def _reads_every_row(self, role: Role) -> bool:
        """Whether rollouts of advantage 0 have a part in the role's loss."""
        objective = self.config.objective
        return objective.kl > 0 or surrogate_of(objective, role) in EVERY_ROW

    def _gather(self, trainee: Trainee, role: Role, share: Plan, sums: _Sums) -> None:
        """Forward and backward over a role's micro-batches."""
        shared = len(self._roles[trainee.line]) > 1
        weight = self.config.generator.weight if role == "generator" and shared else 1.0
        sums.dead += share.dead_groups
        sums.unspliced += share.unspliced
        budget = self.config.learner.token_budget
        whole = surrogate_of(self.config.objective, role) in WHOLE_GROUPS
        for packed in micro_batches(share.rows, budget, whole_groups=whole):
            batch = packed.on(trainee.model.device, trainee.dtype)
            terms = self._terms(trainee, batch, role, sums)
            terms = weight * terms / self._denominators(share, batch, role)
            trainee.backward((terms * self._coefficients(terms)).sum())
            sums.terms += terms.detach()
            sums.slots += batch.policy_slots
            sums.rows += batch.rows

    def _terms(self, trainee: Trainee, batch: MicroBatch, role: Role, sums: _Sums) -> Tensor:
        """Sums over the micro-batch's slots: policy, divergence, answer."""
        objective, slots = self.config.objective, batch.policy_slots
        temperature = self._sampled_by(role).temperature
        logprobs, entropy = trainee.score(batch, temperature)
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
            start = trainee.score_start(batch, temperature)[:slots]
            divergence = self._sum(DIVERGENCES[objective.divergence](policy, start), batch)
        sums.counted += torch.stack([acted.sum(), entropy.sum(), (now - batch.sampled).abs().sum()])
        nll = answer_nll(answer, batch.weights).sum()
        return torch.stack([self._sum(loss, batch), divergence, nll])

    def _sum(self, losses: Tensor, batch: MicroBatch) -> Tensor:
        """Over all slots; under "sequence" each slot counts a share of its rollout's tokens."""
        if self.config.objective.aggregate != "sequence":
            return losses.sum()
        counts = torch.bincount(batch.owner, minlength=batch.rows)
        return (losses / counts[batch.owner]).sum()

    def _denominators(self, share: Plan, batch: MicroBatch, role: Role) -> Tensor:
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
        return torch.tensor(counts, dtype=torch.float32, device=batch.tokens.device)

    def _sampled_by(self, role: Role) -> SolverConfig | GeneratorConfig:
        return self.config.solver if role == "solver" else self.config.generator

    def _coefficients(self, like: Tensor) -> Tensor:
        return like.new_tensor([1.0, self.config.objective.kl, self.config.objective.answer_term])

    def _stats(self, sums: _Sums, grad_norm: float) -> UpdateStats:
        policy, divergence, answer = sums.terms.tolist()
        clips, entropy, mismatch = (sums.counted / max(sums.slots, 1)).tolist()
        return UpdateStats(
            loss=float((sums.terms * self._coefficients(sums.terms)).sum()),
            policy_loss=policy,
            answer_loss=answer,
            kl=divergence,
            grad_norm=grad_norm,
            clipped=clips,
            entropy=entropy,
            mismatch=mismatch,
            tokens=sums.slots,
            rows=sums.rows,
            dead_groups=sums.dead,
            unspliced=sums.unspliced,
        )

    def save(self, folder: Path) -> None:
        """Weights and moments of every line in float32, their positions, torch's random state."""
        for trainee in self._trainees.values():
            trainee.save(folder)
        save_file({"torch": torch.get_rng_state()}, folder / RANDOM)

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote: the next step is that of an uninterrupted run."""
        for trainee in self._trainees.values():
            trainee.restore(folder)
        torch.set_rng_state(load_file(folder / RANDOM)["torch"])


def _finite(trainee: Trainee, stats: UpdateStats) -> UpdateStats:
    odd = {name: value for name, value in asdict(stats).items() if not math.isfinite(value)}
    if odd:
        raise NonFinite(
            f"{trainee.line}: {odd} over {stats.rows} rows; weights stay at {trainee.version.id}"
        )
    return stats


def _roles(line: Line, config: RunConfig) -> tuple[Role, ...]:
    """The unfrozen roles that a line serves."""
    shared = config.model.generator == "shared"
    serves: dict[Line, tuple[Role, ...]] = {
        "solver": ("solver", "generator") if shared else ("solver",),
        "generator": ("generator",),
    }
    frozen = {"solver": config.solver.frozen, "generator": config.generator.frozen}
    return tuple(role for role in serves.get(line, ()) if not frozen[role])
