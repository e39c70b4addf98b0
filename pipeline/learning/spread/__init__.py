"""How a line's weights lie in the processes that train them, by the name in the configuration."""

from __future__ import annotations

from collections.abc import Callable

from transformers import PreTrainedModel

from pipeline.config import RunConfig
from pipeline.learning.spread.held import Held
from pipeline.learning.spread.sharded import Sharded
from pipeline.learning.spread.whole import Whole
from pipeline.learning.team import Team

SPREADS: dict[str, Callable[[PreTrainedModel, RunConfig, Team], Held]] = {
    "replicas": Whole,
    "fsdp2": Sharded,
}


def hold(model: PreTrainedModel, config: RunConfig, team: Team) -> Held:
    """The line's weights as this process holds them; one process holds them whole."""
    return SPREADS[config.learner.spread if team.size > 1 else "replicas"](model, config, team)
