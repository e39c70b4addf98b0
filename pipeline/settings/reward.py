"""The settings of rewards: which one, of what it is made, and what becomes of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.settings.section import NonNegative, Positive, Section, Share

OutcomeName = Literal[
    "mean_probability",
    "verifree",
    "rlpr",
    "rule",
    "majority_vote",
    "consensus",
    "co_reward",
    "judge",
    "rubric",
]
RewardName = Literal[
    "nover",
    OutcomeName,
    "rank",
    "efficiency",
    "reasoning_advantage",
    "dro",
    "long_ppl",
    "quantile",
    "self_certainty",
    "entropy",
    "sar",
    "length",
    "repetition",
    "conciseness",
    "step_sum",
    "clip_and_delta",
    "kl",
]
Importance = Literal["essential", "important", "optional", "pitfall"]


class RewardConfig(Section):
    name: RewardName = Field("nover", description="How evidence becomes a reward.")
    variant: Literal["code", "paper"] = Field(
        "code",
        description="Length norm of NOVER's perplexity: 1 + log10 (code) or 1 + ln (paper) "
        "of reasoning tokens.",
    )
    form_weight: NonNegative = Field(1.0, description="Weight of the strict format reward.")
    reasoning_weight: NonNegative = Field(
        1.0, description="Weight of the in-group rank of reasoning perplexity."
    )
    efficiency_weight: NonNegative = Field(
        0.1, description="Weight of beating siblings on both length and perplexity."
    )
    gate: Literal["strict", "lenient", "off"] = Field(
        "strict",
        description="Which attempts earn anything but form: the well-formed, those with text "
        "outside the blocks too, or all. What needs a reference scored earns 0 where none was.",
    )
    outcome: OutcomeName = Field(
        "mean_probability",
        description="The reward that 'conciseness' multiplies and that 'quantile' takes quantiles "
        "of; nothing else reads it.",
    )
    match: Literal["exact", "normalised", "math"] = Field(
        "math", description="Which of a rule's verdicts 'rule' pays."
    )
    key_gain: NonNegative = Field(
        2.0,
        description="Nats that reasoning must add to a reference token for 'long_ppl' to count it.",
    )
    key_loss: NonNegative = Field(
        2.0, description="Nats below which its loss must lie besides, with the reasoning."
    )
    rubric: tuple[Importance, ...] = Field(
        (),
        description="How much each rubric item counts: essential 1, pitfall 0.9, important 0.7, "
        "optional 0.3; empty counts all alike.",
    )
    length_limit: Positive = Field(
        96, description="Written tokens from which 'length' pays nothing, and 'conciseness' least."
    )
    length_buffer: Positive = Field(
        24,
        description="Last tokens before that limit over which 'length' falls from 1; as many as "
        "the limit is a penalty on every token.",
    )
    step_bar: Share = Field(
        0.9,
        description="Reading of a step that 'clip_and_delta' takes for good; more earns no more.",
    )
    mix: dict[RewardName, float] = Field(
        {}, description="Other rewards that are added, by name, each with its weight."
    )
    mix_end: dict[RewardName, float] = Field(
        {},
        description="Weights at the last of rounds * steps for those in mix, reached in a "
        "straight line; a name that is missing here keeps its weight.",
    )
    noise: Share = Field(
        0.0,
        description="Share of verdicts R that become 1 - R, drawn from each rollout's id; for "
        "rewards from 0 to 1.",
    )
    correction: Literal["none", "backward", "forward"] = Field(
        "none",
        description="How a verifier's known errors are undone: in the reward, whose mean is then "
        "the clean one, or in what each verdict weighs, for advantage 'reinforce'.",
    )
    false_positive: Share = Field(
        0.0, description="Share of wrong answers that the verifier accepts, for the correction."
    )
    false_negative: Share = Field(
        0.0, description="Share of right answers that it rejects, for the correction."
    )
    transform: Literal["none", "rank", "quantile"] = Field(
        "none",
        description="What takes the reward's place at last: its rank in the group or the "
        "share of the group that it reaches.",
    )

    @model_validator(mode="after")
    def _possible(self) -> RewardConfig:
        if self.name in self.mix:
            raise ValueError(f"reward.mix adds {self.name!r} to itself; leave it out")
        if stray := sorted(self.mix_end.keys() - self.mix.keys()):
            raise ValueError(
                f"reward.mix_end names {', '.join(stray)}, which reward.mix does not; give both"
            )
        if self.length_buffer > self.length_limit:
            raise ValueError("reward.length_buffer is more than reward.length_limit; lower it")
        if self.correction != "none" and self.false_positive + self.false_negative >= 1:
            raise ValueError(
                "reward.false_positive and reward.false_negative sum to 1 or more: such verdicts "
                "tell nothing, and no correction helps; lower them"
            )
        return self

    def at(self, progress: float) -> RewardConfig:
        """The same with the weights that hold at this share of the run, in [0, 1]."""
        if not self.mix_end:
            return self
        done = min(progress, 1.0)
        now = {
            name: (1.0 - done) * weight + done * self.mix_end.get(name, weight)
            for name, weight in self.mix.items()
        }
        return self.model_copy(update={"mix": now})
