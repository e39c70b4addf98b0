"""TOML and --set in, a RunConfig out, or every problem at once with the key that was meant.

Settings are checked strictly: no number is read from a string, no truth value from a number.
"""

from __future__ import annotations

import difflib
import json
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args, get_origin

from pydantic import BaseModel, JsonValue, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from flows.errors import Refusal
from pipeline.config import RunConfig
from pipeline.recipes import RECIPES

Tree = dict[str, JsonValue]
LARGEST = 2**20  # bytes of a configuration file

# what a checkpoint, the pool in it and its count of steps were made for; a fork may change the rest
FIXED = (
    "steps",
    "model.base",
    "model.generator",
    "model.lora_rank",
    "model.lora_alpha",
    "tags",
    "data",
    "probe",
)


def load_config(file: Path | None, changes: Sequence[str]) -> RunConfig:
    """The configuration of a file (the defaults where None) with `--set` changes applied.

    Raises Refusal with all problems at once.
    """
    tree = {} if file is None else _read(file)
    return build(tree, changes, str(file) if file else "--set")


def build(tree: Tree, changes: Sequence[str], place: str) -> RunConfig:
    """The tree with the changes, as a RunConfig. Raises Refusal naming `place`."""
    for change in changes:
        _apply(tree, change)
    try:
        return RunConfig.model_validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors()]
    raise Refusal(
        f"{place}: {len(problems)} problem{'s' if len(problems) > 1 else ''}",
        problems,
        "`coclimb init` writes a file with every key and what it does",
    )


def settings_of(recipe: str | None) -> tuple[str, ...]:
    """A recipe's settings, as --set takes them; none where None. Raises Refusal for no recipe."""
    if recipe is None:
        return ()
    if recipe not in RECIPES:
        close = difflib.get_close_matches(recipe, RECIPES, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise Refusal(
            f"--recipe {recipe!r}: there is no such recipe{hint}",
            remedy=f"the recipes are {', '.join(RECIPES)}",
        )
    return RECIPES[recipe].settings


def change_config(config: RunConfig, changes: Sequence[str]) -> RunConfig:
    """A fork's configuration. Raises Refusal where its parent's checkpoint could not serve it."""
    changed = build(cast(Tree, config.model_dump(mode="json")), changes, "--set")
    before, after = dict(_leaves(config)), dict(_leaves(changed))
    unfit = [
        f"{key} is {after[key]!r}, the checkpoint was made with {before[key]!r}"
        for key in before
        if before[key] != after[key] and key.startswith(FIXED)
    ]
    if unfit:
        raise Refusal("a fork cannot change these", unfit, "start a new run with them instead")
    return changed


def template() -> str:
    """Every setting at its default as TOML, each under the sentence that explains it."""
    lines = ["# Settings of a coclimb run. Every value here is the default."]
    for section in ("", *_sections()):
        model = RunConfig if not section else type(getattr(RunConfig(), section))
        if section:
            lines += ["", f"[{section}]"]
        for name, field in model.model_fields.items():
            if not _is_section(field):
                lines += ["", *_comment(field), f"{name} = {_toml(field.default)}"]
    return "\n".join(lines) + "\n"


def _sections() -> list[str]:
    return [name for name, field in RunConfig.model_fields.items() if _is_section(field)]


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _comment(field: FieldInfo) -> list[str]:
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    listed = f" One of: {', '.join(map(str, choices))}." if choices else ""
    return textwrap.wrap(
        f"{field.description}{listed}", 98, initial_indent="# ", subsequent_indent="# "
    )


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def _read(file: Path) -> Tree:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise Refusal(
            f"{file}: {error.strerror}", remedy=f"`coclimb init {file}` writes one to start from"
        ) from error
    if len(data) > LARGEST:
        raise Refusal(f"{file}: {len(data)} bytes; a configuration has at most {LARGEST}")
    try:
        return cast(Tree, tomllib.loads(data.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(f"{file}: not TOML: {error}", remedy="correct that place") from error


def _apply(tree: Tree, change: str) -> None:
    """Put `a.b=value` into the tree; what is no TOML value is taken as text."""
    key, equals, text = change.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise Refusal(f"--set {change!r}: expected key=value, as in --set solver.group_size=16")
    here = tree
    for name in names[:-1]:
        inner = here.setdefault(name, {})
        if not isinstance(inner, dict):
            raise Refusal(f"--set {change!r}: {name} is a value, so nothing can be set inside it")
        here = inner
    here[names[-1]] = _value(text.strip())


def _value(text: str) -> JsonValue:
    try:
        return cast(JsonValue, tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        return text


def _problem(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}: there is no such key{_meant(key)}"
    if detail["type"] == "literal_error":
        expected = str(detail.get("ctx", {}).get("expected", ""))
        close = difflib.get_close_matches(str(detail["input"]), _words(expected), 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        return f"{key}: expected {expected}, not {detail['input']!r}{hint}"
    if detail["type"] == "value_error":
        said = str(detail.get("ctx", {}).get("error", detail["msg"]))
        return f"{key}: {said}" if key else said
    return f"{key}: {detail['msg'].removeprefix('Input ')}, not {_short(detail['input'])}"


def _words(expected: str) -> list[str]:
    return [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]


def _short(value: object) -> str:
    return textwrap.shorten(repr(value), 60, placeholder="...")


def _meant(key: str) -> str:
    """The keys that a misspelt one is nearest to, by its last name or as a whole."""
    known = [name for name, _ in _leaves(RunConfig())] + _sections()
    last = {name: name.rsplit(".", 1)[-1] for name in known}
    same = [name for name in known if last[name] == key.rsplit(".", 1)[-1]]
    alike = difflib.get_close_matches(key, known, 1, 0.7)
    wanted = key.rsplit(".", 1)[-1]
    inside = [n for n in known if n.rpartition(".")[0] == key.rpartition(".")[0]]
    near = difflib.get_close_matches(wanted, [last[name] for name in inside], 1, 0.6)
    found = same or [n for n in inside if last[n] in near] or alike
    return f"; did you mean {' or '.join(found[:2])}?" if found else ""


def _leaves(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every setting by its dotted key."""
    for name in type(config).model_fields:
        value: object = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def difference(one: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """Dotted keys in which two dumped configurations differ."""
    found: list[str] = []
    for key in sorted(one.keys() | other.keys()):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += [f"{key}.{inner}" for inner in difference(a, b)]
        elif a != b:
            found.append(key)
    return found
