"""A worker: takes items from the store, works them out, and answers. Any number may work at once.

It needs no run's lease, only its own claim on one item at a time, which a background thread renews.
Killed or frozen, it loses that one item to another; whatever it answers too late is refused.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

from safetensors import SafetensorError
from sqlalchemy.exc import DBAPIError
from transformers.utils.logging import disable_progress_bar

from flows.display import clock
from flows.errors import Refusal
from flows.hands import Hands, Job, Made, sweep, worker_name
from flows.home import Home, make_home
from flows.live import repeat_exactly
from flows.looks.report import console
from flows.owning import LEAVING, Interrupted, deaf, stoppable
from pipeline.config import recorded
from pipeline.engine.renewing import renewing
from pipeline.files.shared import BadShared
from pipeline.items import Claim
from pipeline.models.folder import BadModel
from store import questions
from store import work as queue
from store.claims import ERRORS
from store.database import Store
from store.errors import StoreError
from store.parities import record_parities

FIRST_LEASE = 60.0  # seconds, until a run's own configuration says how many
SHORTEST, LONGEST = 0.02, 0.25  # seconds between two looks for an item
TELL_EVERY = 30.0
FAULTS_IN_A_ROW = (
    ERRORS - 1
)  # after which a worker is unfit, before an item has all its errors from it
PAUSE = 10.0  # seconds after a fault, in which another may take the item
# what may be wrong with an item or with this worker, and then not with the others
FAULTS = (BadShared, BadModel, SafetensorError, ValueError, RuntimeError, OSError, MemoryError)


@dataclass(frozen=True, slots=True)
class Shift:
    """How long to work, and for whom.

    run           for this run alone; None for whichever has items
    seconds_idle  end after so long without an item; None: never
    items         end after so many answers; None: never
    threads       to compute with; None takes the number of the run's own process, on which the
                  last bits of an answer depend
    """

    run: str | None = None
    seconds_idle: float | None = None
    items: int | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """What a worker did.

    items    answered, with so many rows, in so many seconds of work
    lost     worked out in vain: another had the item meanwhile
    faults   given back with an error
    ended    why it ended
    """

    items: int = 0
    rows: int = 0
    seconds: float = 0.0
    lost: int = 0
    faults: int = 0
    ended: str = ""

    def told(self) -> str:
        """In one line."""
        rate = self.rows / self.seconds if self.seconds else 0.0
        said = f"{self.items} items of {self.rows} rows in {self.seconds:.1f} s of work, "
        said += f"{rate:.0f} rows a second"
        said += f", {self.lost} lost" if self.lost else ""
        return said + (f", {self.faults} given back with an error" if self.faults else "")


def work(home: Home, shift: Shift) -> Tally:
    """Work until the shift is over, or Ctrl-C or SIGTERM ends it; lines on stderr tell how it goes.

    Raises Refusal where item after item fails here, and Unknown for a run that is not there.
    """
    make_home(home)
    sweep(home)
    repeat_exactly()
    disable_progress_bar()
    shown, began, name = console(stderr=True), time.monotonic(), worker_name()

    def say(text: str) -> None:
        shown.print(f"[{clock(time.monotonic() - began)}] {text}", soft_wrap=True, markup=False)

    store, hands = Store.open(home.store), Hands(home, name)
    try:
        if shift.run is not None:
            shift = replace(shift, run=questions.resolve(store, shift.run))
        worker = Worker(store, name, shift, hands, say)
        with stoppable():
            return worker.work()
    finally:
        hands.close()
        store.close()


class Worker:
    """Takes one item after another. `name` is its own among all workers."""

    def __init__(
        self, store: Store, name: str, shift: Shift, hands: Hands, say: Callable[[str], None]
    ) -> None:
        self.store, self.name, self.shift, self.hands, self.say = store, name, shift, hands, say
        self.tally = Tally()
        self._claim: Claim | None = None
        self._lease = FIRST_LEASE
        self._faults = 0

    def work(self) -> Tally:
        """Work the shift. An interrupt is an end like others; whatever ends it, the item at hand
        is given back."""
        self.say(f"worker {self.name} takes items of {self.shift.run or 'any run'}")
        try:
            ended = self._work()
        except Interrupted as error:
            ended = str(error)
        finally:
            self._leave(sys.exception())
        self.tally = replace(self.tally, ended=ended)
        self.say(f"{ended}: {self.tally.told()}")
        return self.tally

    def _work(self) -> str:
        pause, since, told = SHORTEST, time.monotonic(), time.monotonic()
        while self.shift.items is None or self.tally.items < self.shift.items:
            claim = queue.claim(
                self.store, self.name, self._lease, run=self.shift.run, held=self.hands.held
            )
            if claim is not None:
                self._take(claim)
                pause, since = SHORTEST, time.monotonic()
                if since - told > TELL_EVERY:
                    self.say(self.tally.told())
                    told = since
                continue
            idle = time.monotonic() - since
            if self.shift.seconds_idle is not None and idle >= self.shift.seconds_idle:
                return f"no item came for {idle:.0f} s"
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
        return "the shift is over"

    def _take(self, claim: Claim) -> None:
        """Work one item out and answer it, unless it is lost meanwhile."""
        self._claim, began = claim, time.monotonic()
        try:
            made = self._answer(claim)
        except StoreError:
            raise
        except FAULTS as error:
            record_parities(self.store, claim, self.hands.compared())
            if self._renew(claim):
                queue.give_back(self.store, claim, _told(error))
                self._fail(claim, _told(error))
            else:  # the run may have gone on, and its weights with it
                self._lose()
            return
        record_parities(self.store, claim, self.hands.compared())
        if queue.finish(self.store, claim, made.answer, made.weights):
            self._count(items=1, rows=claim.item.rows, seconds=time.monotonic() - began)
            self._claim, self._faults = None, 0
        elif made.weights == claim.item.weights.sha256:
            self._lose()
        else:
            self._fail(claim, f"it was answered under other weights, {made.weights[:12]}")

    def _answer(self, claim: Claim) -> Made:
        job = self._job(claim.run)  # read anew: a new owner of the run may have changed it
        work = job.config.work
        if self._lease != work.lease:
            self._lease = work.lease
            self._renew(claim)
        with renewing(lambda: self._renew(claim), self._lease / 4, work.item_seconds):
            return self.hands.answer(job, claim.item)

    def _renew(self, claim: Claim) -> bool:
        return queue.renew(self.store, claim, self._lease)

    def _lose(self) -> None:
        self._claim = None
        self._count(lost=1)

    def _leave(self, error: BaseException | None) -> None:
        """Let another have the item at hand at once, unless the store does not answer in time.

        error  what ends this worker; the store's own is none of the item's
        """
        claim = self._claim
        if claim is None:
            return
        said = "" if error is None or isinstance(error, (StoreError, DBAPIError)) else _told(error)

        def give_back() -> None:
            with suppress(StoreError, DBAPIError):
                queue.give_back(self.store.within(LEAVING), claim, said)

        last = threading.Thread(target=give_back, name="leaving", daemon=True)
        with deaf():
            last.start()
            last.join(LEAVING)  # a server that is mute would be waited for longer

    def _fail(self, claim: Claim, said: str) -> None:
        """Put down what failed, as it may never work again, and wait for another to take the item.

        Raises Refusal after one fault too many in a row.
        """
        self._claim = None
        self._faults += 1
        self._count(faults=1)
        self.say(f"item {claim.item.id[:12]} given back: {said}")
        self.hands.close()
        if self._faults >= FAULTS_IN_A_ROW:
            raise Refusal(
                f"{self._faults} items in a row could not be worked out here; the last: {said}",
                remedy="does this machine see the run's base, its work.folder and its engine? "
                "`coclimb doctor` looks",
            )
        time.sleep(PAUSE)

    def _count(self, **more: float) -> None:
        added = {name: getattr(self.tally, name) + value for name, value in more.items()}
        self.tally = replace(self.tally, **added)

    def _job(self, run: str) -> Job:
        facts = questions.run_facts(self.store, run)
        machine = cast("Mapping[str, object]", facts["environment"])
        threads = self.shift.threads or cast("int | None", machine.get("threads")) or 1
        return Job(recorded(str(facts["config"])), threads)


def _told(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
