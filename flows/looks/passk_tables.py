"""A contrast of two versions as tables on a terminal."""

from __future__ import annotations

import re

from pydantic import JsonValue

from flows.looks.listing import table
from flows.looks.report import console
from pipeline.evaluation.boundary import QUANTILES, Held
from pipeline.evaluation.contrast import Contrast, Curves, Side
from pipeline.types import Estimate

LISTED = 12  # tasks of a cell that are named; --json has all
HEADLINES = ("all", "depth>=3")  # parts whose curves are shown; --json has every part
Row = dict[str, JsonValue]


def show(found: Contrast, names: tuple[str, str]) -> None:
    """Print every figure of a contrast, with what it says in words."""
    say(
        f"A = {names[0]}, B = {names[1]}: {len(found.tasks)} held-out tasks, {found.n} attempts of "
        f"each by either, at temperature {found.a.temperature:g}; 95 % intervals by task"
    )
    for curves in found.curves:
        if curves.part in HEADLINES:
            _curves(found, curves)
    _many(found)
    _sides(found)
    _coverage(found)
    _histogram(found)
    _perplexity(found)


def say(text: str) -> None:
    """A line of words, wrapped by the terminal alone."""
    console().print(text, soft_wrap=True)


def told(figure: Estimate, sign: str = "") -> str:
    """A figure with its interval, whose bounds go without their leading zero."""
    low, high = (
        re.sub(r"^([+-]?)0\.", r"\1.", f"{bound:{sign}.2f}") for bound in (figure.low, figure.high)
    )
    return f"{figure.value:{sign}.2f} [{low}, {high}]"


def _curves(found: Contrast, curves: Curves) -> None:
    say(f"\npass@k, {curves.part} ({curves.tasks} tasks)")
    rows: list[Row] = []
    for seat, k in enumerate(curves.ks):
        row: Row = {"k": k, "A": told(curves.a[seat]), "B": told(curves.b[seat])}
        row["B - A, paired"] = told(curves.difference[seat], "+")
        if found.matched is not None and curves.matched:
            row[f"B at {found.matched.temperature:.2f}"] = told(curves.matched[seat])
        rows.append(row)
    table(rows)
    say(_crossing(curves, found.n))
    say(f"Delta_SE = pass@{found.n}(A) - pass@1(B) = {told(curves.delta_se, '+')}; lower is better")


def _crossing(curves: Curves, n: int) -> str:
    if curves.leader is None:
        return "A and B are equal at k = 1"
    if curves.crossover is None:
        return f"{curves.leader} is above at every k up to {n}"
    return f"{curves.leader} is above at first, from k = {curves.crossover} on no longer"


def _sides_of(found: Contrast) -> list[tuple[str, Side]]:
    sides = [("A", found.a), ("B", found.b)]
    if found.matched is not None:
        sides.append((f"B at {found.matched.temperature:.2f}", found.matched))
    return sides


def _many(found: Contrast) -> None:
    say(
        "\nall of k right (pass^k), more than half (mG-Pass@k), majority (maj@k), and once or more "
        "with right reasoning too (CoT-pass@k)"
    )
    rows: list[Row] = []
    for seat, one in enumerate(found.a.many):
        row: Row = {"k": one.k}
        for name, side in _sides_of(found)[:2]:
            many = side.many[seat]
            row[f"pass^k {name}"], row[f"mG {name}"] = many.every, many.stable
            row[f"maj {name}"], row[f"CoT {name}"] = many.majority, many.reasoned
        rows.append(row)
    table(rows)


def _sides(found: Contrast) -> None:
    say("\nhow they were drawn, and how spread their answers are (entropies in nats)")
    if found.matched is None:
        say("no temperature within a factor 8 gives B the token entropy of A")
    rows: list[Row] = [
        {
            "version": name,
            "temperature": side.temperature,
            "token entropy": side.token_entropy,
            "answer entropy": side.answer_entropy,
            "over ln n": side.answer_spread,
            "truncated": side.truncated,
            "right": f"{side.accuracy[0]:.3f} (SE {side.accuracy[1]:.3f})",
        }
        for name, side in _sides_of(found)
    ]
    table(rows)


def _coverage(found: Contrast) -> None:
    total = len(found.tasks)
    cells = found.coverage
    say(f"\ntasks solved by any of {found.n} attempts")
    rows: list[Row] = [
        {"solved by": name, "tasks": len(held), "share": len(held) / total}
        for name, held in (
            ("both", cells.both),
            ("A alone", cells.a_only),
            ("B alone", cells.b_only),
            ("neither", cells.neither),
        )
    ]
    table(rows)
    again = {held.id: held for held in found.again}
    for name, side in (("A alone", cells.a_only), ("B alone", cells.b_only)):
        if side:
            still = sum(_alone(again.get(held.id), name) for held in side)
            listed = ", ".join(_counts(held, again.get(held.id)) for held in side[:LISTED])
            more = f" and {len(side) - LISTED} more" if len(side) > LISTED else ""
            say(f"{name}, {still} of {len(side)} so again with fresh attempts: {listed}{more}")
    ratios = {
        "kept of A's (SRR)": found.support.srr,
        "new in B's (NDR)": found.support.ndr,
        "harmonic mean (SDS)": found.support.sds,
        "net change (NSCR)": found.support.nscr,
    }
    shares = ", ".join(f"{k} {'-' if v is None else f'{v:.3f}'}" for k, v in ratios.items())
    say(f"{shares}; exact McNemar p {found.mcnemar:.3f}")


def _alone(held: Held | None, name: str) -> bool:
    """Whether fresh attempts too were right under that version alone."""
    if held is None:
        return False
    own, other = (held.a, held.b) if name == "A alone" else (held.b, held.a)
    return own > 0 and other == 0


def _counts(held: Held, again: Held | None) -> str:
    """A task with right attempts of A and B, then of the fresh ones."""
    fresh = f", then {again.a}/{again.b}" if again else ""
    return f"{held.id} ({held.a}/{held.b}{fresh})"


def _histogram(found: Contrast) -> None:
    say("\ntasks by share of right attempts")
    rows: list[Row] = [{"version": name, **dict(side.histogram)} for name, side in _sides_of(found)]
    table(rows)


def _perplexity(found: Contrast) -> None:
    say("\nA's perplexity of what A and B wrote, per completion, at temperature 1 (quantiles)")
    rows: list[Row] = [
        {
            "written by": one.of,
            "completions": f"{one.kind}: {one.completions}",
            **{f"{100 * q:g} %": v for q, v in zip(QUANTILES, one.quantiles, strict=False)},
        }
        for one in found.perplexity
    ]
    table(rows)
