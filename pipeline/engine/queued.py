"""An engine whose calls are put into a run's queue, and worked out by whoever takes them.

A call is cut into items of a few requests each. Which requests share an item depends on their order
alone, so the answers are the same for any number of workers, and the same as `Sharded` gives.
Whoever asks waits until every item is answered, and may take items itself meanwhile. Asked again
after a kill, the same calls are the same items, and what was answered is found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from pipeline.engine.messages import (
    answer,
    confidences_of,
    sample_item,
    samples_of,
    score_item,
    scores_of,
)
from pipeline.engine.renewing import renewing
from pipeline.engine.sharded import shards
from pipeline.files.published import Format, Published
from pipeline.items import Claim, Item, Queue, WeightsFile
from pipeline.ports import (
    Confidences,
    Engine,
    Sample,
    SampleRequest,
    ScoreRequest,
    Scores,
    WeightedEngine,
)

T = TypeVar("T")
SHORTEST, LONGEST = 0.005, 0.25  # seconds between two looks for answers
PATIENCE = 15.0  # seconds without an answer after which it is said, and said again thrice as long


@dataclass(frozen=True, slots=True)
class Post:
    """Where the items of a run that is alive go.

    lease  seconds for which an item that this process takes is its own, unless renewed
    say    told, now and then, that nobody answers
    """

    queue: Queue
    weights: Published
    lease: float
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Helper:
    """An engine of this process that works items out while it waits.

    weights  SHA-256 of those that it answers under, as they were published
    """

    engine: Engine
    weights: str


class Outlet:
    """The one way out of all queued engines of a run; shut until the run is alive.

    Engines are made before their run has a row, and take weights then. Asking comes later: a run
    that is opened nowhere asks nothing, which is refused rather than answered elsewhere.
    """

    def __init__(self) -> None:
        self._post: Post | None = None
        self._current: dict[str, WeightsFile] = {}
        self._changed = False

    def open(self, post: Post) -> None:
        """Let calls out from now on."""
        self._post = post

    def publish(self, state: Mapping[str, Tensor], version: str) -> WeightsFile:
        """Publish the weights that an engine asks under from now on, in place of its last."""
        file = self._opened().weights.put(state, version)
        self._current[version.partition("@")[0]] = file
        self._changed = True
        return file

    def ask(self, items: Sequence[Item], helper: Helper | None) -> list[bytes]:
        """The answers of items, in order; waits for as long as it takes.

        helper  works items out while nobody else has them; None: nobody does here
        Raises ItemFailed for an item that workers gave up.
        """
        post = self._opened()
        post.queue.put(items)
        found: dict[str, bytes] = {}
        open_ids = {item.id for item in items}
        patience = _Patience(post.say, len(open_ids))
        while True:
            answered = post.queue.answers(open_ids)
            if open_ids <= answered.keys():
                found |= answered
                return [found[item.id] for item in items]
            found |= answered
            open_ids -= answered.keys()
            claim = post.queue.take(open_ids) if helper is not None else None
            if claim is not None and helper is not None:
                own = _work_out(post, claim, helper)
                found |= own
                open_ids -= own.keys()
                patience.heard()
            else:
                patience.wait(len(open_ids))

    def settle(self) -> None:
        """What all was asked for is committed, and so its items are forgotten: so are the weights
        that none of them needs any more."""
        if self._post is not None and self._changed:
            self._post.weights.prune({file.name for file in self._current.values()})
            self._changed = False

    def close(self) -> None:
        """Ask nothing any more. What was published stays: the run may be another process's."""
        self._post = None

    def _opened(self) -> Post:
        if self._post is None:
            raise RuntimeError("a queued engine was asked while its run is not alive")
        return self._post


class Queued:
    """Fills `ports.WeightedEngine` through a run's queue.

    name    the line of its weights, which tells a worker what kind of engine they are for
    helper  an engine of this process that works items out while it waits; None where none does
    groups  requests of an item; 0 keeps a call whole

    Weights are published when something is first asked of them: those that a resumed run passes
    through while it takes committed steps again are not.
    """

    def __init__(
        self, name: str, outlet: Outlet, helper: WeightedEngine | None, form: Format, groups: int
    ) -> None:
        self._name, self._outlet, self._helper = name, outlet, helper
        self._format, self._groups = form, groups
        self._waiting: dict[str, Tensor] | None = None
        self._weights: WeightsFile | None = None
        self._version = ""

    @property
    def version(self) -> str:
        """Id of the weights that answer now."""
        return self._version

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        """Take these weights; they are published with the next call."""
        if self._helper is not None:
            self._helper.load(state, version)
        self._waiting, self._version, self._weights = self._format.rounded(state), version, None

    def close(self) -> None:
        """End what the helper started."""
        if self._helper is not None:
            self._helper.close()

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        """Completions per request, one per seed, in order."""

        def item(part: Sequence[SampleRequest], weights: WeightsFile) -> Item:
            return sample_item(weights, part, max_tokens, temperature)

        return [samples for data in self._ask(requests, item) for samples in samples_of(data)]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """Log-probabilities of every target token, in order."""

        def item(part: Sequence[ScoreRequest], weights: WeightsFile) -> Item:
            return score_item(weights, "score", part)

        return [scores for data in self._ask(requests, item) for scores in scores_of(data)]

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        """How sure the weights are along every target, in order."""

        def item(part: Sequence[ScoreRequest], weights: WeightsFile) -> Item:
            return score_item(weights, "confide", part)

        return [sure for data in self._ask(requests, item) for sure in confidences_of(data)]

    def _ask(
        self, requests: Sequence[T], item: Callable[[Sequence[T], WeightsFile], Item]
    ) -> list[bytes]:
        """The answers of the items that a call is cut into; of nothing, nothing."""
        items = [item(part, self._published()) for part in shards(requests, self._groups)]
        return self._outlet.ask(items, self._help()) if items else []

    def _help(self) -> Helper | None:
        """The helper beside the weights that it says it holds, which may be others."""
        if self._helper is None:
            return None
        same = self._helper.version == self._version
        return Helper(self._helper, self._published().sha256 if same else self._helper.version)

    def _published(self) -> WeightsFile:
        if self._weights is None:
            if self._waiting is None:
                raise RuntimeError(f"the engine {self._name} was asked before it was given weights")
            step = self._version.partition("@")[2]
            self._weights = self._outlet.publish(self._waiting, f"{self._name}@{step}")
            self._waiting = None
        return self._weights


class _Patience:
    """Waits, longer each time that nothing came, and says so where it lasts."""

    def __init__(self, say: Callable[[str], None], items: int) -> None:
        self._say, self._items, self._left = say, items, items
        self.heard()

    def heard(self) -> None:
        """Something came: look again at once."""
        self._pause, self._told, self._since = SHORTEST, PATIENCE, time.monotonic()

    def wait(self, left: int) -> None:
        """Wait a little, with so many items still open; a signal ends it by what it raises."""
        if left < self._left:
            self.heard()
        self._left = left
        quiet = time.monotonic() - self._since
        if quiet >= self._told:
            self._told *= 3
            self._say(
                f"waiting for workers: {left} of {self._items} items of this call are unanswered, "
                f"and nothing came for {quiet:.0f} s; `coclimb workers` lists who answers, "
                f"`coclimb worker` starts one; what a lost one held is free after work.lease"
            )
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST)


def _work_out(post: Post, claim: Claim, helper: Helper) -> dict[str, bytes]:
    """Answer a claimed item here; nothing where the claim was lost meanwhile, or is refused."""
    with renewing(lambda: post.queue.renew(claim), post.lease / 4):
        made = answer(helper.engine, claim.item)
    return {claim.item.id: made} if post.queue.finish(claim, made, helper.weights) else {}
