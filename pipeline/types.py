"""Nouns of the loop: what one stage hands to the next, frozen, each with its shapes.

A rollout becomes part of a Group, a Group is Judged, a Judged group is Credited, and a StepRecord
holds what one optimiser step did. Each stage returns a new type, so nothing carries a reward or an
advantage that does not exist yet. Ids are relative to their run ("r01-s03-n07-g2"), so two runs
with the same seed and config write the same ids.

Axes: N tasks, G rollouts of a group, K rollouts of it that could be judged, L tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["solver", "generator", "greedy"]
Line = Literal["solver", "generator", "proxy"]
Axis = Literal["solver", "verifier", "generator"]
Origin = Literal["human", "document", "executor", "rule", "generator", "consensus"]
Form = Literal[
    "ok",
    "empty",
    "truncated",
    "unclosed",
    "nested",
    "repeated",
    "reordered",
    "missing_reasoning",
    "missing_answer",
    "text_outside",
]
Status = Literal["measured", "malformed", "score_error", "too_long", "timeout", "not_measured"]
Drop = Literal[
    "admitted",
    "malformed",
    "too_long",
    "no_question",
    "copy_of_seed",
    "copy_of_task",
    "copy_of_probe",
    "duplicate_in_round",
    "answer_in_question",
    "no_reference",
    "low_confidence",
    "not_attempted",
]


@dataclass(frozen=True, slots=True)
class Task:
    """A question, its reference, and where both came from.

    reference   the trusted answer text; empty only while a proposal waits for its consensus
    confidence  in [0, 1]; 1 for a given reference, the margin for a consensus
    parent_id   the task this one was evolved from
    proposal_id the generator's rollout that wrote it
    other_references  further answers that a rule takes for right; likelihood reads the first alone
    """

    id: str
    question: str
    reference: str
    origin: Origin
    confidence: float = 1.0
    round: int = 0
    parent_id: str | None = None
    proposal_id: str | None = None
    other_references: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """Every answer that a rule takes for right, the first first; () where there is none yet."""
        return (self.reference, *self.other_references) if self.reference else ()

    def __post_init__(self) -> None:
        if not self.question.strip():
            raise ValueError(f"task {self.id}: the question is empty")
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"task {self.id}: confidence {self.confidence} is outside [0, 1]")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled completion, kept as one flat row of L tokens.

    tokens    [L]  everything the policy read and wrote, in order
    written   [L]  true where the policy wrote the token; only these carry loss
    logprobs  [L]  log-probability of each written token when sampled, else 0
    stop           "end" where the policy ended its text, "length" where the budget did
    seed           the random stream this rollout alone was drawn from
    version        the weights that wrote it
    """

    id: str
    tokens: tuple[int, ...]
    written: tuple[bool, ...]
    logprobs: tuple[float, ...]
    completion: str
    stop: Literal["end", "length"]
    seed: int
    version: str

    def __post_init__(self) -> None:
        lengths = {len(self.tokens), len(self.written), len(self.logprobs)}
        if len(lengths) != 1:
            raise ValueError(f"{self.id}: tokens, written and logprobs differ in length: {lengths}")


@dataclass(frozen=True, slots=True)
class Transcript:
    """What a completion parsed into: two blocks, or the reason why not.

    For an attempt the blocks are reasoning and answer; for a proposal question and stated
    reference. Both are "" unless form is "ok".
    """

    form: Form
    first: str = ""
    final: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """The G rollouts of one task in one step, with their parsed transcripts.

    For the solver `task` is the task attempted; for the generator it is the parent shown to it.
    A "greedy" group is one attempt of the solver without chance: others are compared with it, and
    it trains nothing.
    """

    id: str
    role: Role
    task: Task
    rollouts: tuple[Rollout, ...]  # [G]
    transcripts: tuple[Transcript, ...]  # [G]

    def __post_init__(self) -> None:
        if len(self.rollouts) != len(self.transcripts):
            raise ValueError(f"group {self.id}: rollouts and transcripts differ in number")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one meter read of one attempt. Anything but "measured" never becomes a number.

    source   the meter's name: "rule", "vote", "certainty", ...
    version  of the weights or the library that answered
    values   finite numbers, how many and of what is the meter's to say
    at       where values belong to parts of the completion: how many written tokens each part
             ends behind
    """

    source: str
    version: str
    status: Status
    values: tuple[float, ...] = ()
    at: tuple[int, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What verifiers measured of one attempt. Anything but "measured" never becomes a number.

    reference_logprobs  per scored token of the reference given the reasoning, under `version`
    baseline_logprobs   the same tokens given no reasoning; equal within a group
    reasoning_tokens    tokens of the bare reasoning
    readings            what meters read beside it, one of each source at most
    """

    status: Status
    version: str
    reference_logprobs: tuple[float, ...] = ()
    baseline_logprobs: tuple[float, ...] = ()
    reasoning_tokens: int = 0
    detail: str = ""
    readings: tuple[Reading, ...] = ()

    def reading(self, source: str) -> Reading | None:
        """What the meter of that name read; None where it was not asked."""
        return next((one for one in self.readings if one.source == source), None)


@dataclass(frozen=True, slots=True)
class ProposalEvidence:
    """What the curriculum and the solver made of one proposal.

    drop         why it went no further, or "admitted"
    solved       share of attempts that a rule could tell right; None where no rule can
    beats        share of attempts whose reasoning beats the no-reasoning baseline
    agreement    share of attempts whose answer equals the consensus; not a pass rate
    similarity   in [0, 1], to the nearest earlier task; 1 is a copy
    task_id      the task it became
    """

    drop: Drop
    attempts: int = 0
    solved: float | None = None
    beats: float | None = None
    agreement: float | None = None
    confidence: float | None = None
    similarity: float = 0.0
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A group whose evidence became rewards, for the K rollouts that could be judged.

    evidence    [G]  Evidence for a solver group, ProposalEvidence for a generator group
    kept        [K]  indices into the group's rollouts; the others carry a status and train nothing
    rewards     [K]  finite
    components       name -> [K], the terms the reward was summed from
    """

    group: Group
    evidence: tuple[Evidence, ...] | tuple[ProposalEvidence, ...]
    kept: tuple[int, ...]
    rewards: tuple[float, ...]
    components: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.kept) != len(self.rewards):
            raise ValueError(f"group {self.group.id}: kept and rewards differ in number")
        if len(self.evidence) != len(self.group.rollouts):
            raise ValueError(f"group {self.group.id}: evidence must cover every rollout")
        for reward in self.rewards:
            if not float("-inf") < reward < float("inf"):
                raise ValueError(f"group {self.group.id}: reward {reward} is not finite")


@dataclass(frozen=True, slots=True)
class Credited:
    """A judged group set against itself.

    advantages      [K]  zero for every rollout of a dead group
    answer_weights  [K]  weight of the reference's own log-likelihood after this reasoning, >= 0
    by_token        [K][written tokens]  advantages where those of a rollout's tokens differ, and
                    then `advantages` are their means; () where every token has its rollout's
    """

    judged: Judged
    advantages: tuple[float, ...]
    answer_weights: tuple[float, ...]
    by_token: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.by_token and len(self.by_token) != len(self.advantages):
            raise ValueError(f"group {self.judged.group.id}: advantages differ in number by token")

    @property
    def dead(self) -> bool:
        """True where the group teaches nothing: no advantage and no answer weight."""
        return not any(self.advantages) and not any(map(any, (self.answer_weights, *self.by_token)))


@dataclass(frozen=True, slots=True)
class UpdateStats:
    """What one optimiser step did. Sums and means are over the whole step, not a micro-batch."""

    loss: float
    policy_loss: float
    answer_loss: float
    kl: float
    grad_norm: float
    clipped: float  # share of written tokens whose clip acted
    entropy: float  # mean nats per written token
    mismatch: float  # mean |trainer - sampler| log-probability of written tokens
    tokens: int  # written tokens that carried loss
    rows: int
    dead_groups: int
    unspliced: int  # rollouts that the answer term skipped: no opening tag among their tokens


@dataclass(frozen=True, slots=True)
class Version:
    """A set of weights: a line's name and the step that made it ("solver@12"), with parents."""

    id: str
    line: Line
    step: int
    parents: tuple[str, ...] = ()
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A probe's figure with its 95 % interval, clustered by task."""

    value: float
    low: float
    high: float
    n: int  # clusters


@dataclass(frozen=True, slots=True)
class ProbeRecord:
    """One figure of one axis on a fixed held-out set, under a version."""

    axis: Axis
    name: str  # "accuracy", "pair_accuracy", "frontier_share", ...
    slice: str  # "all", "depth>=3", "family=gates", ...
    estimate: Estimate
    version: str
    per_task: tuple[tuple[str, float], ...] = ()  # task id and its value, for paired comparisons


@dataclass(frozen=True, slots=True)
class PoolFigure:
    """The verifier's figure on its frozen pool.

    per_task  the value of each task that could be measured, by the task's id
    """

    estimate: Estimate
    per_task: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """One decision about the proxy. A refused sync leaves the weights of `before` in place."""

    round: int
    step: int
    rule: str
    source: str  # the policy version copied from
    before: str  # proxy version
    after: str  # proxy version; equal to `before` when refused
    alpha: float
    probe_before: Estimate | None
    probe_after: Estimate | None
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Studied:
    """A stored group that a step learned from without sampling, and the run that holds it.

    judged  as that run recorded it; who studies it judges its evidence again
    """

    run: str
    judged: Judged

    @property
    def name(self) -> tuple[str, str]:
        """The run and the group's id, which find it in the store."""
        return self.run, self.judged.group.id


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One optimiser step, whole: what was attempted, judged and learned.

    resampled  groups attempted beyond those asked for, because others taught nothing
    studied    stored groups that were learned from; then nothing was attempted
    """

    round: int
    step: int  # counted from 1 over the whole run
    credited: tuple[Credited, ...]
    tasks: tuple[Task, ...]  # proposals that became tasks in this step, with their consensus
    updates: Mapping[Line, UpdateStats]
    versions: tuple[Version, ...]  # made by this step
    syncs: tuple[SyncRecord, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)  # never part of a digest
    resampled: int = 0
    studied: tuple[Studied, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposed:
    """A round's proposals, before anyone attempted them.

    groups       generator groups, one per parent shown
    candidates   per group, per rollout: the task it would become, or None where it was dropped
    evidence     per group, per rollout: the reason, "admitted" for a candidate
    """

    round: int
    groups: tuple[Group, ...]
    candidates: tuple[tuple[Task | None, ...], ...]
    evidence: tuple[tuple[ProposalEvidence, ...], ...]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A proposed task and what solvers made of it: the generator's memory.

    success  share of attempts that stands for success (solved, else the configured stand-in)
    """

    task: Task
    success: float
    attempts: int
