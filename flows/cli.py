"""The command line: every command by its name. Nothing heavy is imported before one is called, so
that help and mistakes answer in half a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import climb, deploy, look, study, work
from flows.commands.edge import Edge
from flows.home import find_home

app = typer.Typer(
    name="coclimb",
    help="A language model's solver, verifier and task generator climb together.",
    epilog="Begin with `coclimb run`; `coclimb init` writes every setting with its meaning.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "run": climb.run,
    "resume": climb.resume,
    "fork": climb.fork,
    "train": climb.train,
    "deploy": deploy.deploy,
    "worker": work.worker,
    "runs": look.runs,
    "rounds": look.rounds,
    "tasks": look.tasks,
    "rollouts": look.rollouts,
    "lineage": look.lineage,
    "probe": look.probe,
    "passk": study.passk,
    "compare": study.compare,
    "replay": study.replay,
    "methods": study.methods,
    "attack": study.attack,
    "import": study.import_,
    "export": study.export,
    "workers": look.workers,
    "verify": look.verify,
    "doctor": look.doctor,
    "init": look.init,
}


@app.callback()
def shared(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Home folder; else COCLIMB_HOME, else .coclimb here.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(help="A postgresql:// URL; else COCLIMB_STORE, else the home's SQLite."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    context.obj = Edge(find_home(home, store), debug)


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of the command; `arguments` are the process's own where None."""
    app(args=hoist(sys.argv[1:] if arguments is None else arguments), prog_name="coclimb")


def hoist(arguments: Sequence[str]) -> list[str]:
    """The arguments with those that every command shares put first, wherever they stood."""
    first, rest = list[str](), list[str]()
    left = iter(arguments)
    for argument in left:
        name = argument.partition("=")[0]
        if name in ("--home", "--store"):
            first += [argument] if "=" in argument else [argument, *islice(left, 1)]
        elif argument == "--debug":
            first.append(argument)
        elif argument == "--":
            rest += [argument, *left]
        else:
            rest.append(argument)
    return first + rest


if __name__ == "__main__":
    main()
