"""The learner in this process, and the lines it trains, which several processes share alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.batch import Splice
from pipeline.config import RunConfig
from pipeline.files.saving import save_tensors
from pipeline.learning.gradient import gather
from pipeline.learning.order import Lesson, Order, lines_of
from pipeline.learning.ordered import Ordered, Publish
from pipeline.learning.student import gather_lesson
from pipeline.learning.team import Team
from pipeline.learning.trainee import Trainee
from pipeline.types import Line, UpdateStats, Version

RANDOM = "random.safetensors"


class PolicyLearner(Ordered):
    """Fills the Learner and Saved ports with weights of this process's own.

    models      line -> a transformers causal LM with float32 weights, or one in LoRA adapters.
                Under config.model.generator "shared" the line "solver" alone, serving both roles;
                under "own" also "generator"
    """

    def __init__(
        self,
        models: Mapping[Line, nn.Module],
        config: RunConfig,
        splice: Splice,
        publish_to: Mapping[Line, Publish],
    ) -> None:
        asked = set(lines_of(config))
        if set(models) != asked:
            raise ValueError(
                f"model.generator is {config.model.generator!r}, which needs the models "
                f"{sorted(asked)}; got {sorted(models)}"
            )
        super().__init__(Lines(models, config), config, splice, publish_to)


class Lines:
    """Fills Hands: every line's weights as this process holds them.

    team  the processes that train them; None for this one alone. All call alike, in order
    """

    def __init__(
        self, models: Mapping[Line, nn.Module], config: RunConfig, team: Team | None = None
    ) -> None:
        self.config = config
        self.trainees = {line: Trainee(line, models[line], config, team) for line in sorted(models)}

    def versions(self) -> dict[Line, Version]:
        return {line: trainee.version for line, trainee in self.trainees.items()}

    def state(self, line: Line) -> Mapping[str, Tensor]:
        return self.trainees[line].state()

    def take(self, order: Order) -> dict[Line, UpdateStats]:
        for trainee in self.trainees.values():
            trainee.discard()  # what a refused step may have left
        stats = {
            line: gather(self.trainees[line], plans, self.config)
            for line, plans in order.plans.items()
        }
        return self._apply(stats, order.step)

    def study(self, lesson: Lesson) -> dict[Line, UpdateStats]:
        trainee = self.trainees["solver"]
        trainee.discard()
        return self._apply({"solver": gather_lesson(trainee, lesson, self.config)}, lesson.step)

    def save(self, folder: Path) -> None:
        for trainee in self.trainees.values():
            trainee.save(folder)
        if all(trainee.team.leads for trainee in self.trainees.values()):
            save_tensors({"torch": torch.get_rng_state()}, folder / RANDOM)

    def restore(self, folder: Path) -> None:
        for trainee in self.trainees.values():
            trainee.restore(folder)
        torch.set_rng_state(load_file(folder / RANDOM)["torch"])

    def close(self) -> None:
        return  # the weights end with this process

    def _apply(self, stats: dict[Line, UpdateStats], step: int) -> dict[Line, UpdateStats]:
        """Take the step that was gathered, once all of it is known to be finite."""
        for line, update in stats.items():
            if update.rows:
                self.trainees[line].apply()
            self.trainees[line].advance(step)
        return stats
