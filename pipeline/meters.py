"""Which meters a run's settings ask for."""

from __future__ import annotations

from pipeline import advantages, rewards
from pipeline.config import RunConfig


def judging(config: RunConfig) -> tuple[str, ...]:
    """Those whose readings reward and advantage judge and compare, each once."""
    needed = (*rewards.needed(config.reward), *advantages.needed(config.objective))
    return tuple(dict.fromkeys(needed))


def reading(config: RunConfig) -> tuple[str, ...]:
    """Those that read every attempt: the judging ones, and those asked for beside them."""
    return tuple(dict.fromkeys((*judging(config), *config.verifier.also)))
