"""`coclimb passk A B`: what two stored versions solve in k attempts, and at what cost.

Weights are held one version at a time: A attempts, B attempts (also at the temperature that gives
it A's entropy), then A reads what both wrote. What comes out is kept in the home folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from transformers.utils.logging import disable_progress_bar

from flows.assemble import Parts, assemble
from flows.errors import Refusal
from flows.home import Home
from flows.live import Assemble
from flows.looks.listing import FORMATS, reading
from flows.looks.passk_tables import show
from flows.looks.report import as_json, console
from flows.looks.versions import Stored, find_version, stand_at
from flows.work import Again, Work
from pipeline.evaluation.attempts import (
    Attempts,
    Draw,
    attempt_all,
    mean_logprobs,
    token_entropy,
)
from pipeline.evaluation.boundary import matched_temperature
from pipeline.evaluation.contrast import Contrast, Material, contrast, solved_by_one
from pipeline.evaluation.exam import ProbeItem
from store.database import Store

FORMAT = 1  # of the file that a result is kept in
CLOSE = 0.02  # relative width of the bracket around the matched temperature
ENOUGH = 600  # attempts from which the entropy at a temperature is estimated, where so many fit


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to attempt. tasks: most of each depth, 0 for all; temperature: A's own where None."""

    samples: int
    tasks: int
    temperature: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Named:
    """A version in a result."""

    name: str
    run: str
    round: int
    version: str
    checksum: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Result:
    """A contrast with what it was made from."""

    a: Named
    b: Named
    wanted: Wanted
    contrast: Contrast


_RESULT = TypeAdapter(Result)


def passk(
    home: Home, names: tuple[str, str], wanted: Wanted, *, json: bool, plot: Path | None
) -> None:
    """Contrast two stored versions, or read the contrast that was kept; print it, and draw it."""
    if plot is not None and plot.suffix.lower() not in FORMATS:
        raise Refusal(f"--plot {plot}: expected a file that ends in {', '.join(FORMATS)}")
    disable_progress_bar()
    with reading(home) as store:
        a, b = (find_version(store, name) for name in names)
        result = find_result(store, home, (a, b), wanted, assemble)
    if plot is not None:
        from flows.looks.plot_passk import plot_contrast  # noqa: PLC0415 - half a second, for one option

        plot_contrast(result.contrast, (result.a.name, result.b.name), plot)
        console(stderr=True).print(f"drew {plot}", soft_wrap=True)
    if json:
        print(as_json(_RESULT.dump_python(result, mode="json")))
    else:
        show(result.contrast, (result.a.name, result.b.name))


def find_result(
    store: Store, home: Home, versions: tuple[Stored, Stored], wanted: Wanted, assembled: Assemble
) -> Result:
    """The kept result of the same weights, tasks and draws under these names, or a new one."""
    a, b = versions
    temperature = wanted.temperature or a.config.solver.temperature
    wanted = Wanted(wanted.samples, wanted.tasks, temperature, wanted.seed)
    named = (_named(a), _named(b))
    file = home.root / "passk" / f"{_key(named, wanted)}.json"
    kept = _read(file)
    if kept is not None:
        console(stderr=True).print(f"kept from before in {file}", soft_wrap=True)
        return Result(*named, wanted, kept.contrast)
    with Work() as work:
        found = Contrasting(store, home, assembled, work, wanted).of(a, b)
    result = Result(*named, wanted, found)
    _write(file, result)
    return result


def _named(stored: Stored) -> Named:
    version, longest = stored.version, stored.config.solver.max_tokens
    return Named(stored.name, stored.run, stored.round, version.id, version.checksum, longest)


def _key(named: tuple[Named, Named], wanted: Wanted) -> str:
    """A file name from all that the result depends on; what a version was called is not of it."""
    sides = [(one.run, one.round, one.checksum, one.max_tokens) for one in named]
    asked = (wanted.samples, wanted.tasks, wanted.temperature, wanted.seed)
    text = json.dumps([FORMAT, sides, asked])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _read(file: Path) -> Result | None:
    """The result in a file; None where there is none that can be read."""
    try:
        return _RESULT.validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _write(file: Path, result: Result) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".tmp-{os.getpid()}")
    draft.write_bytes(_RESULT.dump_json(result))
    draft.replace(file)


@dataclass(frozen=True, slots=True)
class Contrasting:
    """Stands at one version after the other and has it attempt and read."""

    store: Store
    home: Home
    assembled: Assemble
    work: Work
    wanted: Wanted

    def of(self, a: Stored, b: Stored) -> Contrast:
        """The contrast of two versions on the tasks that both held out."""
        temperature = self.wanted.temperature or a.config.solver.temperature
        parts = self._stand(a)
        items = _chosen(parts.exam.items, self.wanted.tasks)
        by_a = self._attempt(parts, items, temperature, "A attempts")
        parts.close()
        del parts
        parts = self._stand(b)
        shared = _shared(items, parts.exam.items)
        if len(shared) < 2:
            raise Refusal(
                f"{a.name} and {b.name} hold out {len(shared)} tasks in common; two are needed",
                remedy="compare runs of equal probe and data settings",
            )
        kept = {item.id for item in shared}
        by_a = [one for one in by_a if one.item.id in kept]
        by_b = self._attempt(parts, shared, temperature, "B attempts")
        matched = self._match(parts, shared, token_entropy(by_a), temperature)
        alone = set(solved_by_one(by_a, by_b))
        doubtful = [item for item in shared if item.id in alone]
        anew_b = self._anew(parts, doubtful, temperature, "B")
        parts.close()
        del parts
        parts = self._stand(a)
        anew_a = self._anew(parts, doubtful, temperature, "A")
        scores = self._score(parts, by_a, "A"), self._score(parts, by_b, "B")
        parts.close()
        again = {item.id: (x, y) for item, x, y in zip(doubtful, anew_a, anew_b, strict=True)}
        return contrast(Material((temperature, by_a), (temperature, by_b), matched, scores, again))

    def _stand(self, wanted: Stored) -> Parts:
        again = Again(self.work, wanted.config.steps)
        return stand_at(self.store, self.home, wanted, self.assembled, again)

    def _attempt(
        self, parts: Parts, items: Sequence[ProbeItem], temperature: float, what: str
    ) -> list[Attempts]:
        return self._draw(parts, items, (temperature, "passk", self.wanted.samples), what)

    def _draw(
        self,
        parts: Parts,
        items: Sequence[ProbeItem],
        how: tuple[float, str, int],
        what: str,
    ) -> list[Attempts]:
        """Attempts at a temperature, for a purpose, so many of each task."""
        temperature, purpose, samples = how
        self.work.begin(what, len(items) * samples)
        draw = Draw(self.wanted.seed, purpose, samples)
        solver = parts.solver.at(temperature)
        return attempt_all(solver, parts.exam.truth, items, draw, self.work.told)

    def _match(
        self, parts: Parts, items: Sequence[ProbeItem], target: float, start: float
    ) -> tuple[float, list[Attempts]] | None:
        """B's attempts at the temperature at which its token entropy is the target."""
        few = min(-(-ENOUGH // len(items)), self.wanted.samples)

        def mean_entropy(temperature: float) -> float:
            what = f"B's entropy at temperature {temperature:.2f}"
            return token_entropy(self._draw(parts, items, (temperature, "entropy", few), what))

        found = matched_temperature(mean_entropy, target, start, CLOSE)
        if found is None:
            return None
        return found, self._attempt(parts, items, found, f"B attempts at temperature {found:.2f}")

    def _anew(
        self, parts: Parts, items: Sequence[ProbeItem], temperature: float, who: str
    ) -> list[int]:
        """Right attempts of fresh ones, per task."""
        how = temperature, "passk-again", self.wanted.samples
        what = f"{who} attempts anew what one alone solved"
        return [one.solved for one in self._draw(parts, items, how, what)] if items else []

    def _score(
        self, parts: Parts, attempts: Sequence[Attempts], who: str
    ) -> list[tuple[float, ...]]:
        self.work.begin(f"A reads what {who} wrote", sum(len(one.written) for one in attempts))
        return mean_logprobs(parts.solver.engine, attempts, self.work.told)


def _chosen(items: Sequence[ProbeItem], tasks: int) -> list[ProbeItem]:
    """The first `tasks` of each depth, in order; all of them for 0."""
    seen: dict[int, int] = {}
    chosen = []
    for item in items:
        seen[item.depth] = seen.get(item.depth, 0) + 1
        if not tasks or seen[item.depth] <= tasks:
            chosen.append(item)
    return chosen


def _shared(items: Sequence[ProbeItem], others: Sequence[ProbeItem]) -> list[ProbeItem]:
    """The items whose question and reference the other exam holds too."""
    there = {(item.question, item.reference) for item in others}
    return [item for item in items if (item.question, item.reference) in there]
