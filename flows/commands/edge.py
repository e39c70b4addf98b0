"""What the commands share: where the home is, and the options that several of them take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from flows.errors import Answering
from flows.home import Home

Run = Annotated[str, typer.Argument(help="A run's id, the beginning of one, its name, or 'last'.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as solver.group_size=16."),
]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Settings of a published method, such as dapo; before --set."
    ),
]
Name = Annotated[str | None, typer.Option(help="A name to find the run by.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Rounds to run in all.")]
Plain = Annotated[bool, typer.Option("--plain", hidden=True, help="Run without Prefect.")]
Round = Annotated[int | None, typer.Option(help="Only this round.")]
Picture = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: .png, .svg or .pdf.")
]
Origin = Annotated[str | None, typer.Option(help="Such as rule, human, consensus.")]
Drop = Annotated[
    str | None, typer.Option(help="Proposals dropped for this reason, such as copy_of_task.")
]
Role = Annotated[str | None, typer.Option(help="solver or generator.")]
Form = Annotated[str | None, typer.Option(help="Such as ok, truncated, nested.")]
Limit = Annotated[int, typer.Option(min=1, help="Most rows, the newest.")]


@dataclass(frozen=True, slots=True)
class Edge:
    """What every command shares."""

    home: Home
    debug: bool

    def answering(self) -> Answering:
        """A with block that turns what goes wrong into a message and an exit code."""
        return Answering(debug=self.debug)
