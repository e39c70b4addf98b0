"""Settings of the optimiser step, and of the processes that take it together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.settings.section import Decay, NonNegative, Positive, Section, Share


class LearnerConfig(Section):
    learning_rate: NonNegative = Field(
        0.0,
        description="AdamW step size; 0 takes 1e-3 for the tiny base and, for any other, 1e-5 in "
        "LoRA adapters and 1e-6 in all weights.",
    )
    warmup: Annotated[int, Field(ge=0)] = Field(
        3, description="Steps over which the step size rises to its value."
    )
    final_share: Share = Field(
        0.2,
        description="Share of the step size left at the last of rounds * steps, and in any step "
        "after; it falls in a straight line, 1 keeps it.",
    )
    betas: tuple[Decay, Decay] = Field(
        (0.9, 0.95), description="AdamW moment decays, each below 1."
    )
    weight_decay: NonNegative = Field(0.0, description="AdamW decoupled weight decay.")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(
        1.0, description="Gradient norm above which the step is scaled down."
    )
    token_budget: Positive = Field(
        4096,
        description="Tokens per micro-batch; changes memory and speed, not the gradient.",
    )
    processes: Positive = Field(
        1, description="Processes that train together, started by accelerate; one GPU each."
    )
    spread: Literal["replicas", "fsdp2"] = Field(
        "replicas",
        description="What several processes hold: each all weights, or each a shard of them.",
    )
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw", description="AdamW of torch, or of bitsandbytes in 8 bits, paged or not."
    )
    gradient_checkpointing: bool = Field(
        False, description="Work activations out again in the backward pass: memory for time."
    )

    @model_validator(mode="after")
    def _consistent(self) -> LearnerConfig:
        if self.processes > 1 and self.spread == "fsdp2" and self.optimizer != "adamw":
            raise ValueError(
                f"learner.optimizer {self.optimizer} moves whole weights and learner.spread fsdp2 "
                "leaves none whole; use optimizer=adamw, or spread=replicas"
            )
        return self
