"""The house itself: who may import whom, how high a module stands, and what stands nowhere."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import pytest

from agents import generators, verifiers
from agents.generators import GENERATORS
from agents.verifiers import METERS, VERIFIERS
from flows.stages import STAGES as TAKEN
from pipeline.advantages import ADVANTAGES
from pipeline.config import MeterName, RunConfig, Section
from pipeline.learning.optimizers import OPTIMIZERS
from pipeline.learning.spread import SPREADS
from pipeline.objectives import DIVERGENCES
from pipeline.offline import OBJECTIVES
from pipeline.ports import Generator, Meter, Verifier
from pipeline.rewards import REWARDS
from pipeline.rewards.transforms import TRANSFORMS
from pipeline.surrogates import SURROGATES
from store.schema import STAGES
from tests.house_rules import FLOORS, MAY_IMPORT, PACKAGES

ROOT = Path(__file__).resolve().parent.parent
TRAINING = (
    "pipeline.round",
    "pipeline.step",
    "pipeline.study",
    "pipeline.syncing",
    "pipeline.learning.learner",
    "pipeline.learning.launch.learner",
    "agents",
)
TRUTH = ("pipeline.worlds", "pipeline.environments", "pipeline.evaluation")


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the four rooms by its dotted name, parsed."""
    found = {}
    for room in MAY_IMPORT:
        for path in sorted((ROOT / room).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, wherever in it: whole dotted names, of our own to the module."""
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & modules().keys()) or {node.module}
            if node.module in modules():
                found.add(node.module)
    return frozenset(found)


def own(module: str) -> frozenset[str]:
    """The modules of this repository that importing a module runs, packages included."""
    named = {name for name in imports(module) if name in modules()} | {module}
    packages = {".".join(n.split(".")[:i]) for n in named for i in range(1, n.count(".") + 1)}
    return frozenset((named | (packages & modules().keys())) - {module})


def reached(starts: Iterator[str] | list[str]) -> dict[str, str]:
    """Every module that importing these runs, with the module that asked for it first."""
    asked = dict.fromkeys(starts, "")
    waiting = list(asked)
    while waiting:
        module = waiting.pop()
        for other in own(module):
            if other not in asked:
                asked[other] = module
                waiting.append(other)
    return asked


def floor(module: str) -> int:
    names = [name for name in FLOORS if module == name or module.startswith(name + ".")]
    return FLOORS[max(names, key=len)]


def test_no_room_imports_a_room_above_it() -> None:
    climbing = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module)
        if (top := name.split(".")[0]) in MAY_IMPORT and top not in MAY_IMPORT[module.split(".")[0]]
    ]
    assert climbing == []


def test_each_room_needs_its_own_packages_alone() -> None:
    foreign = [
        f"{module} imports {name}"
        for module in modules()
        if (room := module.split(".")[0]) in PACKAGES
        for name in imports(module)
        if (top := name.split(".")[0]) not in PACKAGES[room] | MAY_IMPORT[room]
        and top not in sys.stdlib_module_names
    ]
    assert foreign == []


def test_only_flows_names_prefect_and_its_assembly_names_concrete_parts() -> None:
    concrete = {
        "pipeline.engine.local",
        "pipeline.engine.served",
        "pipeline.learning.learner",
        "pipeline.learning.launch.learner",
        "pipeline.models.proxy",
        "agents.solver",
    }
    assert {m for m in modules() if any(n.startswith("prefect") for n in imports(m))} == {
        "flows.deployment.deployed",
        "flows.deployment.deploying",
        "flows.evolve",
        "flows.deployment.helping",
        "flows.deployment.unread",
        "flows.deployment.leftovers",
        "flows.deployment.reaching",
        "flows.deployment.schedules",
        "flows.server",
        "flows.deployment.workers",
    }
    naming = {m for m in modules() if m.startswith("flows") and imports(m) & concrete}
    assert naming == {"flows.assemble", "flows.bases", "flows.engines"}


def test_a_module_of_the_ground_imports_from_its_floor_or_lower() -> None:
    rising = [
        f"{module} (floor {floor(module)}) imports {other} (floor {floor(other)})"
        for module in modules()
        if module.startswith("pipeline.")
        for other in own(module)
        if floor(other) > floor(module)
        and not module.startswith(other + ".")  # its own package, which holds its table
        and imports(other) - {"__future__"}  # a docstring stands on no floor
    ]
    assert rising == []


def test_every_module_of_the_ground_has_a_floor_of_its_own() -> None:
    homeless = [
        module
        for module in modules()
        if module.startswith("pipeline.")
        and not any(module == f or module.startswith(f + ".") for f in FLOORS if f != "pipeline")
    ]
    assert homeless == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    def asked_at_import(module: str) -> set[str]:
        named = {name for name in imports(module) if name in modules()}
        return {name for name in named if not module.startswith(name + ".")}

    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for other in sorted(asked_at_import(module)):
                walk(other, (*path, module))
            done.add(module)

    for module in modules():
        walk(module, ())


def test_every_question_to_the_store_is_asked_again_where_its_connection_breaks() -> None:
    """Reading goes through `Store.read`, or stands in a function marked `@question`."""
    bare = [
        f"{module}.{node.name}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and module != "store.database"
        if any(ast.unparse(one).endswith("store.reading()") for one in ast.walk(node))
        if "question" not in {d.id for d in node.decorator_list if isinstance(d, ast.Name)}
    ]
    assert bare == []


def test_what_trains_cannot_reach_truth() -> None:
    starts = [m for m in modules() if m in TRAINING or m.startswith("agents.")]
    found = reached(starts)
    leaks = [f"{found[m]} imports {m}" for m in found if m.startswith(TRUTH)]
    assert leaks == []
    assert "pipeline.advantages" in found  # the walk does walk


def choices(section: str, field: str) -> set[str]:
    """What a field of a section of the configuration may be."""
    model = RunConfig.model_fields[section].annotation
    assert isinstance(model, type)
    assert issubclass(model, Section)
    return set(get_args(model.model_fields[field].annotation))


@pytest.mark.parametrize(
    ("section", "field", "table"),
    [
        ("reward", "name", REWARDS.keys()),
        ("reward", "transform", TRANSFORMS.keys()),
        ("objective", "advantage", ADVANTAGES.keys()),
        ("objective", "surrogate", SURROGATES.keys()),
        ("objective", "divergence", DIVERGENCES.keys()),
        ("offline", "objective", OBJECTIVES.keys() | {"none"}),
        ("learner", "spread", SPREADS.keys()),
        ("learner", "optimizer", OPTIMIZERS.keys()),
        ("generator", "kind", GENERATORS.keys() | {"none"}),
        ("verifier", "kind", VERIFIERS.keys()),
    ],
)
def test_every_choice_of_the_configuration_stands_in_its_table(
    section: str, field: str, table: set[str]
) -> None:
    assert choices(section, field) == set(table)


def test_every_meter_that_a_run_may_name_stands_in_the_table() -> None:
    assert set(get_args(MeterName)) == METERS.keys()


@pytest.mark.parametrize(
    ("room", "table", "port"),
    [
        (generators, "GENERATORS", Generator),
        (verifiers, "VERIFIERS", Verifier),
        (verifiers, "METERS", Meter),
    ],
)
def test_a_table_asks_for_whatever_fills_the_port(room: ModuleType, table: str, port: type) -> None:
    _, made = get_args(get_type_hints(room)[table])
    assert get_args(made)[-1] is port  # not the one class that stands in it today


def test_flows_take_the_stages_that_the_store_knows() -> None:
    assert tuple(TAKEN) == STAGES


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_each_import_name_is_this_repositorys(room: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", f"import {room}; print({room}.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(told.stdout.strip()) == ROOT / room / "__init__.py"


def test_nothing_runs_or_unpickles_what_it_reads() -> None:
    found = []
    for module, tree in modules().items():
        banned = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
        found += [f"{module} imports {n}" for n in imports(module) if n.split(".")[0] in banned]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("eval", "exec", "__import__", "compile"):
                    found.append(f"{module}:{node.lineno} calls {node.func.id}")
            elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.load":
                found.append(f"{module}:{node.lineno} uses torch.load")
            elif isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                told = ast.unparse(node.value)
                found += [f"{module}:{node.lineno} trusts remote code"] * (told != "False")
    assert found == []


def test_only_flows_prints() -> None:
    printing = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        if not module.startswith("flows")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert printing == []


def test_no_fault_is_caught_without_its_name() -> None:
    broad = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException"))
    ]
    assert broad == []


def test_files_and_functions_keep_their_size() -> None:
    tall = [
        f"{path.relative_to(ROOT)}: {count} lines"
        for room in (*MAY_IMPORT, "tests")
        for path in (ROOT / room).rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    ]
    long = [
        f"{module}:{node.lineno} {node.name}: {length} lines"
        for module, tree in modules().items()
        if not module.startswith("store.migrations.versions.")  # one statement per column
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > 60
    ]
    assert (tall, long) == ([], [])


def test_the_distribution_holds_every_file_of_the_rooms_and_no_other_package() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    setuptools = told["tool"]["setuptools"]
    files = [
        path.relative_to(ROOT)
        for room in MAY_IMPORT
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    folders = {".".join(path.parent.parts) for path in files}
    assert sorted(folders) == setuptools["packages"]
    missing = [
        path.as_posix()
        for path in files
        if path.suffix != ".py"
        and not any(
            path.match(pattern)
            for pattern in setuptools["package-data"].get(".".join(path.parent.parts), [])
        )
    ]
    assert missing == []
