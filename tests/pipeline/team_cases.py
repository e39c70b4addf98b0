"""The same few steps by one process and by several: what is compared, and the program for several.

Run as a module by a launcher, with the folder of `Study` as its argument.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers.utils.logging import disable_progress_bar

from pipeline.config import RunConfig
from pipeline.learning.exactly import repeat_exactly
from pipeline.learning.learner import Lines
from pipeline.learning.order import lesson_of, lines_of, order_of
from pipeline.learning.spread import SPREADS
from pipeline.learning.team import Team, together
from pipeline.models.policy import wrap_lora
from pipeline.ports import NonFinite
from pipeline.types import Line, UpdateStats
from tests.pipeline.credits import SPLICE, config, credited, random_groups, rollout
from tests.tiny import tiny_model

CROSSED = ("plain", "lora")  # are restored by others than wrote them
CASES: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "plain": {},
    "one row": {"generator": {"frozen": True}},
    "whole groups": {"objective": {"surrogate": "pacs"}},
    "own": {"model": {"generator": "own"}, "objective": {"kl": 0.05}},
    "lora": {
        "model": {"lora_rank": 4},
        "objective": {"kl": 0.05},
        "learner": {"gradient_checkpointing": True},
    },
    "bfloat16": {"model": {"train_dtype": "bfloat16"}},
    "dpo": {
        "offline": {"objective": "dpo", "source": "run", "upto": 1},
        "generator": {"kind": "none"},
        "learner": {"gradient_checkpointing": True},
    },
}
STEPS = {case: 4 if case == "plain" else 1 for case in CASES}
STEPS["lora"] = 2


def settings(case: str, spread: str) -> RunConfig:
    asked = {name: dict(values) for name, values in CASES[case].items()}
    more = {"token_budget": 60, "weight_decay": 0.01, "spread": spread, "max_grad_norm": 1.0}
    asked["learner"] = {**more, **asked.get("learner", {})}
    return config(**asked)


def build(case: str, spread: str, team: Team | None) -> Lines:
    asked = settings(case, spread)
    models: dict[Line, nn.Module] = {line: tiny_model() for line in lines_of(asked)}
    if asked.model.lora_rank:
        models = {line: wrap_lora(tiny_model(), 4, 8.0) for line in models}
    return Lines(models, asked, team)


def take(case: str, lines: Lines, step: int) -> dict[Line, UpdateStats]:
    """A step over groups that its number alone decides."""
    groups = [*random_groups(step, 5), *random_groups(step + 50, 2, role="generator")]
    if case == "one row":  # less than there are processes
        groups = [credited([rollout((10, 11), (20, 1))] * 2, [1.0, 0.0])]
    if case == "dpo":
        judged = [replace(one.judged, rewards=one.advantages) for one in groups[:5]]
        return lines.study(lesson_of(judged, lines.config, SPLICE, step=step))
    ids = {line: version.id for line, version in lines.versions().items()}
    return lines.take(order_of(groups, lines.config, SPLICE, ids, step=step))


def refused(lines: Lines) -> str:
    """What a step says whose one bad row is one process's, and whether anything has moved."""
    before = lines.versions(), {name: x.clone() for name, x in lines.state("solver").items()}
    bad = rollout((10, 11), (20, 1), version="solver@9", logprobs=(float("nan"), -1.0))
    groups = [*random_groups(7), credited([bad, bad], [1.0, -1.0])]
    ids = {line: version.id for line, version in lines.versions().items()}
    try:
        lines.take(order_of(groups, lines.config, SPLICE, ids, step=9))
    except NonFinite as error:
        same = all(torch.equal(before[1][n], x) for n, x in lines.state("solver").items())
        return str(error) if same and before[0] == lines.versions() else "moved"
    return "taken"


@dataclass(frozen=True, slots=True)
class Study:
    """Where what was done is written: per case and spread, a folder and lines of figures."""

    folder: Path

    def place(self, who: str, case: str, spread: str) -> Path:
        return self.folder / f"{who} {spread} {case}"

    def take(self, who: str, case: str, spread: str, team: Team | None = None) -> None:
        """Take the steps, save, and say what each did."""
        lines, place = build(case, spread, team), self.place(who, case, spread)
        curve = [asdict(take(case, lines, n)["solver"]) for n in range(1, STEPS[case] + 1)]
        place.mkdir(parents=True, exist_ok=True)
        lines.save(place)
        self._tell(place, "curve", curve, team)
        if case == "plain":
            self._tell(place, "refused", refused(lines), team)
        if case in CROSSED:
            self._tell(place, "next", asdict(take(case, lines, 9)["solver"]), team)

    def go_on(self, place: Path, case: str, spread: str, team: Team | None = None) -> None:
        """Restore what another wrote, and take one step more."""
        lines = build(case, spread, team)
        lines.restore(place)
        state, who = lines.state("solver"), team.size if team else 1
        if team is None or team.leads:
            save_file({n: x.clone() for n, x in state.items()}, place / f"by {who}.state")
        stats = asdict(take(case, lines, 9)["solver"])
        self._tell(place, f"next by {who}", stats, team)

    def read(self, place: Path, what: str) -> Any:
        return json.loads((place / f"{what}.told").read_text())

    def _tell(self, place: Path, what: str, told: object, team: Team | None) -> None:
        if team is None or team.leads:
            (place / f"{what}.told").write_text(json.dumps(told))


def mistaken() -> str:
    """What a learner of one process says where a launcher started two."""
    try:
        Lines({"solver": tiny_model()}, config())
    except ValueError as error:
        return str(error)
    return "started"


def main(folder: Path) -> None:
    repeat_exactly()
    disable_progress_bar()
    team, study = together("cpu"), Study(folder)
    (folder / f"mistaken.{team.rank}").write_text(mistaken())
    for spread in SPREADS:
        for case in CASES:
            study.take("two", case, spread, team)
            if case in CROSSED:
                study.go_on(study.place("two", case, spread), case, spread, team)
                copied = study.place("one", case, spread)
                study.go_on(copied, case, spread, team)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
