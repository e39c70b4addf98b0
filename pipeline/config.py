"""One frozen tree of settings, read from TOML, closed to unknown keys.

Each field carries a sentence with its unit and effect; `coclimb init` prints them as comments.
Contradictions are refused when the tree is built, with the remedy in the message.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.files.address import Address
from pipeline.settings.data import DataConfig as DataConfig
from pipeline.settings.engine import EngineConfig as EngineConfig
from pipeline.settings.learner import LearnerConfig as LearnerConfig
from pipeline.settings.objective import ObjectiveConfig as ObjectiveConfig
from pipeline.settings.offline import OfflineConfig
from pipeline.settings.reward import RewardConfig as RewardConfig
from pipeline.settings.section import NonNegative, Positive, Share
from pipeline.settings.section import Section as Section
from pipeline.settings.work import WorkConfig as WorkConfig

MeterName = Literal[
    "rule",
    "vote",
    "shape",
    "certainty",
    "entropy",
    "written",
    "unprompted",
    "steps",
    "cross",
    "judge",
    "rubric",
    "teacher",
    "start",
]


class ModelConfig(Section):
    base: str = Field(
        "tiny", description="'tiny' for the base that ships, else a model folder or Hub name."
    )
    generator: Literal["shared", "own"] = Field(
        "shared", description="Whether generator and solver train one set of weights or one each."
    )
    train_dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16",
        description="Number format of the forward and backward pass; weights stay float32.",
    )
    engine_dtype: Literal["float32", "bfloat16"] = Field(
        "bfloat16", description="Number format in which rollouts are sampled."
    )
    proxy_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Number format in which references are scored."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the models live.")
    lora_rank: Annotated[int, Field(ge=0)] = Field(
        0, description="Rank of LoRA adapters; 0 trains all weights."
    )
    lora_alpha: Annotated[float, Field(gt=0)] = Field(
        32.0, description="LoRA scale; the update is alpha/rank * BA."
    )


class TagsConfig(Section):
    reasoning: str = Field(
        "think",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Tag around an attempt's reasoning.",
    )
    answer: str = Field(
        "answer", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Tag around an attempt's answer."
    )
    task: str = Field(
        "task", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Tag around a proposed question."
    )

    @model_validator(mode="after")
    def _distinct(self) -> TagsConfig:
        if len({self.reasoning, self.answer, self.task}) != 3:
            raise ValueError("the three tags must differ; rename one of reasoning, answer, task")
        return self


class GeneratorConfig(Section):
    kind: Literal["evolve", "none"] = Field(
        "evolve", description="How tasks are proposed; 'none' trains on seed tasks alone."
    )
    frozen: bool = Field(
        False,
        description="Propose without training on what proposals were worth. Under model.generator "
        "'shared' the weights that propose still follow the solver's training; under 'own' they "
        "stay as they began.",
    )
    parents: Positive = Field(
        4, description="Parent tasks shown per step, one generator group each."
    )
    group_size: Positive = Field(8, description="Proposals per parent (G of a generator group).")
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Sampling temperature of proposals."
    )
    max_tokens: Positive = Field(96, description="Longest proposal, in tokens.")
    references: Literal["consensus", "stated"] = Field(
        "consensus",
        description="Where a proposal's reference comes from: its attempts' consensus or "
        "its own statement.",
    )
    frontier: Literal["beats", "agreement"] = Field(
        "agreement",
        description="Share of attempts that stands for success in the frontier pay: those that "
        "beat the no-reasoning baseline, or those that agree with the consensus.",
    )
    copy_threshold: Share = Field(
        0.95, description="Similarity to an earlier task from which a proposal is a copy."
    )
    weight: NonNegative = Field(
        1.0,
        description="Weight of the generator's loss beside the solver's when weights are shared.",
    )


class SolverConfig(Section):
    frozen: bool = Field(
        False,
        description="Attempt without training on the attempts; beside a generator that trains it "
        "needs model.generator 'own'.",
    )
    tasks: Positive = Field(32, description="Tasks attempted per step (N).")
    proposed_share: Share = Field(
        0.3, description="Largest share of a step's tasks that are proposals; the rest are seeds."
    )
    group_size: Annotated[int, Field(ge=2)] = Field(
        8, description="Attempts per task (G); a group of one has nothing to compare."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Sampling temperature of attempts."
    )
    max_tokens: Positive = Field(96, description="Longest attempt, in tokens.")


class VerifierConfig(Section):
    kind: Literal["perplexity"] = Field(
        "perplexity", description="What measures the reference given the reasoning."
    )
    also: tuple[MeterName, ...] = Field(
        (),
        description="Meters that read every attempt beside those that the reward needs, so that "
        "other rewards can be tried on the stored rollouts.",
    )
    consensus_floor: Share = Field(
        0.9, description="Consensus confidence below which a proposal does not train the solver."
    )
    candidates: Positive = Field(
        4, description="Most distinct answers of a group that consensus weighs."
    )
    certainty: Literal["online", "offline"] = Field(
        "online",
        description="Whose certainty and entropy are read: of the policy in training, or of the "
        "weights that the run began with.",
    )
    teacher_attempts: Positive = Field(
        8, description="Attempts of each task whose answers vote, where the proxy is the teacher."
    )
    rubric: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="What the rubric asks of each attempt, an item each, such that meeting it is "
        "good; reward.rubric says how much each counts.",
    )


class SyncConfig(Section):
    rule: Literal["never", "steps", "round", "ema"] = Field(
        "steps",
        description="When the proxy moves: never, every k steps, each round, or an average "
        "every k steps.",
    )
    every: Positive = Field(5, description="Steps between syncs under 'steps' and 'ema' (k).")
    alpha: Share = Field(
        0.9,
        description="Weight of the OLD proxy under 'ema' (NOVER's convention); 'steps' and "
        "'round' copy.",
    )
    gated: bool = Field(
        False, description="Refuse a sync after which the verifier's probe falls beyond noise."
    )


class ProbeConfig(Section):
    solver_tasks: Positive = Field(
        30, description="Held-out tasks per depth of the solver's probe."
    )
    solver_samples: Positive = Field(2, description="Attempts per held-out task.")
    verifier_tasks: Positive = Field(
        20, description="Tasks per family of the verifier's frozen pool."
    )
    generator_parents: Positive = Field(16, description="Fixed parents of the generator's probe.")
    generator_attempts: Annotated[int, Field(ge=2)] = Field(
        8, description="Attempts that tell a proposal's success share."
    )
    seed: int = Field(
        20_000,
        description="Seed of the probe sets; the same for every run, so that runs can be paired.",
    )


class CheckpointConfig(Section):
    keep: Annotated[int, Field(ge=2)] = Field(
        3, description="Newest checkpoints kept; the best and forks' parents stay too."
    )
    to: Address = Field(
        "",
        description="Where verified checkpoints are copied to: a folder or an fsspec URL, such as "
        "s3://bucket/runs, from which any machine goes on; empty for the home alone.",
    )


class RunConfig(Section):
    """Everything that decides what a run does. Two runs with equal trees write equal digests."""

    seed: int = Field(1, ge=0, description="Seed of everything sampled in the run.")
    rounds: Positive = Field(4, description="Rounds to run; each ends in a checkpoint and a probe.")
    steps: Positive = Field(20, description="Optimiser steps per round.")
    model: ModelConfig = ModelConfig()
    tags: TagsConfig = TagsConfig()
    data: DataConfig = DataConfig()
    generator: GeneratorConfig = GeneratorConfig()
    solver: SolverConfig = SolverConfig()
    verifier: VerifierConfig = VerifierConfig()
    reward: RewardConfig = RewardConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    learner: LearnerConfig = LearnerConfig()
    sync: SyncConfig = SyncConfig()
    probe: ProbeConfig = ProbeConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    offline: OfflineConfig = OfflineConfig()
    engine: EngineConfig = EngineConfig()
    work: WorkConfig = WorkConfig()

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.solver.frozen and (self.generator.frozen or self.generator.kind == "none"):
            raise ValueError(
                "solver and generator are both frozen, so nothing would train; unfreeze one"
            )
        if self.solver.frozen and self.model.generator == "shared":
            raise ValueError(
                "solver.frozen would not hold: the generator trains the weights that both share; "
                'use model.generator="own"'
            )
        if (
            self.generator.kind != "none"
            and not self.generator.frozen
            and self.generator.group_size < 2
        ):
            raise ValueError(
                "generator.group_size is 1, so its proposals have nothing to compare; use 2 or more"
            )
        if self.offline.objective != "none" and self.generator.kind != "none":
            raise ValueError(
                "training from the store proposes nothing; use generator.kind=none, or "
                "`coclimb fork` to climb on with a generator"
            )
        if 0 < self.objective.dual_clip <= 1:
            raise ValueError(
                "objective.dual_clip would bound the loss where nothing has moved; use 0 for none, "
                "or more than 1 (3 is usual)"
            )
        if self.objective.surrogate == "dppo" and self.objective.correction != "none":
            raise ValueError(
                "objective.surrogate dppo corrects for the sampler by itself; "
                'use objective.correction="none"'
            )
        asked, weighed = len(self.verifier.rubric), len(self.reward.rubric)
        if weighed and asked != weighed:
            raise ValueError(
                f"reward.rubric weighs {weighed} items and verifier.rubric asks {asked}; give each "
                "item its weight, or leave reward.rubric empty"
            )
        if (
            self.reward.name == "nover"
            and self.reward.form_weight + self.reward.reasoning_weight == 0
        ):
            raise ValueError("reward.form_weight and reward.reasoning_weight are both 0; raise one")
        return self

    @property
    def peak_rate(self) -> float:
        """The step size after the warm-up: the one set, else one that suits what trains."""
        if self.learner.learning_rate > 0:
            return self.learner.learning_rate
        if self.model.base == "tiny":
            return 1e-3
        return 1e-5 if self.model.lora_rank else 1e-6

    def reward_at(self, step: int) -> RewardConfig:
        """The reward with the weights that hold at a step, counted from 1 over the whole run."""
        return self.reward.at((step - 1) / max(self.rounds * self.steps - 1, 1))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the tree, but for `ELSEWHERE`."""
        tree = self.model_dump(mode="json", exclude=ELSEWHERE)
        text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


# Where things are and how long one waits for them: no number of a run depends on it. Ids of source
# runs are drawn anew by every run, and the digests of steps cover what was studied.
ELSEWHERE: dict[str, set[str]] = {
    "offline": {"source"},
    "engine": {
        "python", "memory", "start_seconds", "answer_seconds",
        "parity", "parity_difference", "parity_kl",
    },
    "work": {"queue", "helps", "lease", "item_seconds", "folder"},
    "checkpoint": {"to"},
}  # fmt: skip
MOVED = {("verifier", "variant"): ("reward", "variant")}  # settings that have changed place
RENAMED = {("objective", "advantage", "centred"): "dr_grpo"}  # choices that have changed name


def recorded(text: str) -> RunConfig:
    """A configuration as a run recorded it, also one from before a setting changed its place."""
    tree = json.loads(text)
    for (section, name), (new_section, new_name) in MOVED.items():
        if name in tree.get(section, {}):
            tree.setdefault(new_section, {})[new_name] = tree[section].pop(name)
    for (section, name, old), new in RENAMED.items():
        if tree.get(section, {}).get(name) == old:
            tree[section][name] = new
    return RunConfig.model_validate_json(json.dumps(tree))
