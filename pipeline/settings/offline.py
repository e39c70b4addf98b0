"""The settings of training from the store: what is learned from which stored rollouts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.settings.section import Section, Share


class OfflineConfig(Section):
    objective: Literal["none", "qrpo", "sft", "best_sft", "dpo"] = Field(
        "none",
        description="What is learned from stored rollouts in place of sampling: their rewards' "
        "quantiles, references, the reasoning that helped most, or best against worst; "
        "'none' samples. `coclimb train` sets it.",
    )
    source: str = Field(
        "", description="Id of the run whose stored attempts are studied; `coclimb train` sets it."
    )
    upto: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Last round of the source that is read; `coclimb train` sets it to the last "
        "one committed, so that a source that climbs on changes nothing.",
    )
    beta: Annotated[float, Field(gt=0)] = Field(
        0.1,
        description="How dearly qrpo and dpo pay for leaving the starting weights; the smaller, "
        "the farther they go.",
    )
    top_share: Share = Field(
        0.25, description="best_sft: largest share of a group's well-formed attempts that is taken."
    )
    least_advantage: float = Field(
        0.2, description="best_sft: reasoning advantage that an attempt must exceed to be taken."
    )

    @model_validator(mode="after")
    def _sourced(self) -> OfflineConfig:
        if (self.objective == "none") != (not self.source and not self.upto):
            raise ValueError(
                "offline.objective goes with a source: `coclimb train --from RUN --objective NAME` "
                "sets objective, source and upto together; without one, source is '' and upto 0"
            )
        return self

    @property
    def compares(self) -> bool:
        """Whether the objective sets the weights in training against the starting ones."""
        return self.objective in ("qrpo", "dpo")
