"""The command line. Nothing heavy is imported here: help and mistakes answer in half a second."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from flows.errors import Answering, Refusal
from flows.home import Home, find_home

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

Run = Annotated[str, typer.Argument(help="A run's id, the beginning of one, its name, or 'last'.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as solver.group_size=16."),
]
Name = Annotated[str | None, typer.Option(help="A name to find the run by.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="Rounds to run in all.")]
Plain = Annotated[bool, typer.Option("--plain", hidden=True, help="Run without Prefect.")]
Round = Annotated[int | None, typer.Option(help="Only this round.")]
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


@app.callback()
def shared(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Home folder; else COCLIMB_HOME, else .coclimb here.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Store instead of the home's SQLite: a postgresql:// URL.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    context.obj = Edge(find_home(home, store), debug)


@app.command()
def run(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(help="A TOML file; defaults without.")] = None,
    change: Set = None,
    name: Name = None,
    rounds: Rounds = None,
    plain: Plain = False,
) -> None:
    """Climb: propose, attempt, measure, learn, sync and probe, round after round."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.settings import load_config

        load_config(config, change or [])  # a mistake is told before anything heavy is imported
        from flows import running

        running.start(edge.home, config, change or [], running.Asked(name, rounds, plain))


@app.command()
def resume(
    context: typer.Context,
    run: Run = "last",
    rounds: Rounds = None,
    older: Annotated[
        bool, typer.Option("--older", help="Go past a checkpoint that does not verify.")
    ] = False,
    plain: Plain = False,
) -> None:
    """Go on with a run where it stopped."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import running

        asked = running.Asked(rounds=rounds, plain=plain, older=older)
        running.resume(edge.home, run, asked)


@app.command()
def fork(
    context: typer.Context,
    run: Run,
    round: Annotated[int, typer.Option(min=0, help="The round to leave from.")],
    change: Set = None,
    name: Name = None,
    rounds: Rounds = None,
    plain: Plain = False,
) -> None:
    """Begin a new run from a committed round of another, with other settings."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import running

        branch = running.Branch(run, round, change or [])
        running.fork(edge.home, branch, running.Asked(name, rounds, plain))


@app.command()
def runs(context: typer.Context, json: Json = False) -> None:
    """List every run and how it stands."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import listing

        listing.list_runs(edge.home, json=json)


@app.command()
def rounds(
    context: typer.Context,
    run: Run = "last",
    steps: Annotated[
        bool, typer.Option("--steps", help="Step by step: each update, and each sync with why.")
    ] = False,
    json: Json = False,
) -> None:
    """The three axes of a run, round by round; or what each of its steps did."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import listing

        show = listing.list_steps if steps else listing.list_rounds
        show(edge.home, run, json=json)


@app.command()
def tasks(
    context: typer.Context,
    run: Run = "last",
    round: Round = None,
    origin: Origin = None,
    drop: Drop = None,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List tasks and proposals, and what became of each."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import listing
        from store.questions import Filter

        only = Filter(round=round, origin=origin, drop=drop, limit=limit)
        listing.list_tasks(edge.home, run, only, json=json)


@app.command()
def rollouts(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="RUN|TASK", help="A run, or a task's id within one.")
    ] = "last",
    run: Annotated[str, typer.Option(help="The run that a task is in.")] = "last",
    round: Round = None,
    role: Role = None,
    form: Form = None,
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List attempts and proposals with evidence, reward and advantage."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import listing
        from store.questions import Filter

        only = Filter(round=round, role=role, form=form, limit=limit)
        listing.list_rollouts(edge.home, (subject, run), only, json=json)


@app.command()
def lineage(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="A task, rollout, version or checkpoint@ROUND.")],
    run: Annotated[str, typer.Option(help="The run it is in.")] = "last",
    json: Json = False,
) -> None:
    """Where something came from: a tree back to its beginnings."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import listing

        listing.show_lineage(edge.home, id, run, json=json)


@app.command()
def probe(
    context: typer.Context,
    run: Run = "last",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the climb: .png, .svg or .pdf.")
    ] = None,
    json: Json = False,
) -> None:
    """Every figure of a run's probes, with intervals; or a picture of the climb."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import listing

        listing.show_probe(edge.home, run, plot, json=json)


@app.command()
def verify(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help="One run; every run without.")] = None,
    json: Json = False,
) -> None:
    """Check that nothing was lost, doubled or changed; exits 1 on violations."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import listing

        listing.verify(edge.home, run, json=json)


@app.command("import")
def import_(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(help="A file, a folder of `datasets`, a database's address or a Hub name."),
    ],
    change: Set = None,
    json: Json = False,
) -> None:
    """Read a source as a run would, and say what would be changed, merged or left out."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import importing

        importing.report(source, change or [], json=json)


@app.command()
def export(
    context: typer.Context,
    run: Run,
    to: Annotated[
        Path, typer.Option(metavar="PATH", help="A .jsonl or .parquet file, or a new folder.")
    ],
    what: Annotated[
        str, typer.Option(help="tasks, rollouts, updates, syncs, rounds or probes.")
    ] = "rollouts",
    truth: Annotated[
        bool, typer.Option("--truth", help="With the columns that only probes may read.")
    ] = False,
    round: Round = None,
    origin: Origin = None,
    drop: Drop = None,
    role: Role = None,
    form: Form = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most rows, the newest.")] = None,
) -> None:
    """Write a listing of a run, whole, as JSONL, Parquet or a Dataset folder, with a card."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import exporting
        from store.questions import Filter

        only = Filter(round=round, origin=origin, drop=drop, form=form, role=role, limit=limit)
        exporting.export(edge.home, exporting.Wanted(run, what, only, truth), to)


@app.command()
def doctor(context: typer.Context, json: Json = False) -> None:
    """What this machine has, what it lacks, and how to get it."""
    edge: Edge = context.obj
    with edge.answering():
        from flows import doctor as examining

        examining.report(edge.home, json=json)


@app.command()
def init(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("coclimb.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a TOML file of every setting, its default and its meaning."""
    edge: Edge = context.obj
    with edge.answering():
        from flows.settings import template

        if file.exists() and not force:
            raise Refusal(f"{file} is there already", remedy="--force replaces it")
        file.write_text(template())
        typer.echo(f"wrote {file}; `coclimb run {file}` begins with it")


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
