"""Settings of what samples and scores: in this process, or served by vLLM in one of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.section import NonNegative, Positive, Section


class EngineConfig(Section):
    sampler: Literal["local", "batching", "vllm"] = Field(
        "local",
        description="What samples: 'local' in this process, every rollout from its own seed; "
        "'batching' by transformers' continuous batching, from the same seeds; 'vllm' served by a "
        "process of its own.",
    )
    scorer: Literal["local", "vllm"] = Field(
        "local", description="What scores references under the proxy."
    )
    python: str = Field(
        "",
        description="Interpreter of the environment that vLLM is installed in, so that its pins "
        "touch nothing here; empty for this one.",
    )
    memory: Annotated[float, Field(gt=0, le=1)] = Field(
        0.4, description="Share of a GPU's memory that each served engine may take."
    )
    context: Annotated[int, Field(ge=0)] = Field(
        0, description="Longest row that a served engine reads, in tokens; 0 for the model's own."
    )
    start_seconds: Positive = Field(600, description="Longest start of a served engine.")
    answer_seconds: Positive = Field(
        1800, description="Longest that a served engine may take for one call."
    )
    parity: bool = Field(
        True,
        description="Compare an engine that is not 'local' with the local one at its start and "
        "after every publish, and refuse it past the limits.",
    )
    parity_difference: NonNegative = Field(
        0.0,
        description="Largest difference of one token's log-probability that parity accepts, in "
        "nats; 0 takes 1e-4 in float32 and 0.5 in bfloat16.",
    )
    parity_kl: NonNegative = Field(
        0.05, description="Largest mismatch KL that parity accepts, in nats per token."
    )
