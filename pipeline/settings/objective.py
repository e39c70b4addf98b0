"""How rewards are compared and learned from: the section `objective` of the configuration.

What `aggregate` makes of the losses of a step's written tokens:

    token     sum over tokens / T, T the written tokens of the step (DAPO, arXiv 2503.14476)
    sequence  mean over rollouts of each one's own token mean (GRPO, arXiv 2402.03300; GSPO's)
    budget    sum over tokens / (rollouts * max_tokens) (Dr. GRPO, arXiv 2503.20783)
    sum       sum over tokens / rollouts, and the answer term's too (VeriFree, arXiv 2505.21493)

Losses and their mean are any finite number. Token and budget weigh every token alike, so long
rollouts count more; sequence weighs rollouts alike, so a long one's tokens count less. All are of
the whole step, whatever its micro-batches.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.section import NonNegative, Section


class ObjectiveConfig(Section):
    advantage: Literal[
        "grpo",
        "dr_grpo",
        "rloo",
        "opo",
        "maxrl",
        "quantile",
        "reinforce",
        "reinforce_pp",
        "reinforce_pp_baseline",
        "remax",
        "psr",
        "nsr",
        "w_reinforce",
        "tempo",
        "pure_min",
    ] = Field(
        "grpo",
        description="What a reward is set against; `coclimb methods` tells each. A generator's "
        "groups are compared by it too, except that remax, psr, nsr, w_reinforce and pure_min "
        "need what proposals lack and leave them to grpo.",
    )
    spread_floor: NonNegative = Field(
        0.0,
        description="Standard deviation of a group's rewards below which its attempts teach "
        "nothing (RLPR's filter, with a fixed bar in place of its moving one); 0 keeps all.",
    )
    resample: Annotated[int, Field(ge=0)] = Field(
        0,
        description="How many times a step may put fresh seed tasks in place of groups whose "
        "rewards are all equal or below spread_floor (dynamic sampling); each costs the attempts "
        "of those groups.",
    )
    surrogate: Literal["clip", "gspo", "product", "cispo", "pg", "sapo", "dppo", "pacs"] = Field(
        "clip",
        description="Policy loss: the ratio clipped per token, per rollout (gspo its mean, product "
        "its product) or as a weight alone, no ratio (pg), a soft gate, a mask by probability, or "
        "right told from wrong (pacs: rewards of 1 and 0 alone, proposals take clip).",
    )
    aggregate: Literal["token", "sequence", "budget", "sum"] = Field(
        "token",
        description="What a step's losses are divided by: its written tokens, each rollout's own "
        "and then their number, their number times the longest that sampling allows, or their "
        "number alone.",
    )
    dual_clip: NonNegative = Field(
        0.0,
        description="Times |advantage| that a loss may reach where the advantage is negative; "
        "0 sets no bound.",
    )
    clip_low: NonNegative = Field(
        0.2, description="How far the ratio may fall below 1 before its gain is clipped."
    )
    clip_high: NonNegative = Field(
        0.28, description="How far the ratio may rise above 1 before its gain is clipped."
    )
    kl: NonNegative = Field(
        0.0,
        description="Coefficient of the divergence from the starting weights; 0 loads no "
        "reference.",
    )
    divergence: Literal["k2", "k3"] = Field(
        "k3",
        description="Its estimator: k3 has the divergence's value, k2 its gradient. k1, whose "
        "gradient in a loss is 0 on average, is a reward.",
    )
    correction: Literal["none", "token", "sequence", "token_mask", "sequence_mask"] = Field(
        "none",
        description="How the sampler's arithmetic is corrected for: the trainer's over the "
        "sampler's probability of a token or a rollout, cut at the cap or put to 0 above it.",
    )
    correction_cap: Annotated[float, Field(ge=1)] = Field(
        2.0, description="Largest weight of that correction."
    )
    answer_term: NonNegative = Field(
        4.0,
        description="Weight of the reference's log-likelihood after the sampled reasoning; "
        "0 is plain NOVER.",
    )
