"""The families of the rule world: five chains; `kin` stands in its own file.

In `gates` and `rooms` the reference follows from right reasoning only by a name that stands
nowhere in the question: which bird guards a gate, who lives in a room. The tiny base was taught
a fifth of those names, so it can reason there before it can verify (design: a weak verifier
lacks knowledge, not precision).

Every move is allowed in every state: one that would leave the range stops at its edge.
"""

from __future__ import annotations

import random

from pipeline.worlds.chains import Chain, Move, Slots, State

PEOPLE = ("Ana", "Bo", "Cy", "Dee", "Eli", "Fay", "Gus", "Hal", "Ivy", "Jo", "Kim", "Lou")
NOUNS = ("coins", "books", "shells", "plums")
LETTERS = "abcdef"
THINGS = ("ball", "key", "cup", "map")
TOP = 19  # the largest number of `sums`
STRIDE = 5  # the largest number a move adds or takes
# fmt: off
BIRDS = (
    "heron", "owl", "finch", "robin", "crane", "stork", "swift", "wren", "raven", "gull",
)
TENANTS = (
    "Mora", "Tavi", "Selm", "Orin", "Quila", "Bram", "Nessa", "Dorn", "Ylva",
)
# fmt: on
ROWS, COLUMNS = "ABC", "123"
# every fifth name is known to the tiny base; the others it never saw beside their gate or room
TAUGHT_EVERY = 5


def taught(family: str, state: State) -> bool:
    """True where the tiny base was taught the reference that belongs to this state."""
    if family == "gates":
        return int(str(state)) % TAUGHT_EVERY == 0
    if family == "rooms":
        return ROOMS.index(str(state)) % TAUGHT_EVERY == 0
    return True


ROOMS = tuple(row + column for row in ROWS for column in COLUMNS)
NAMED_FAMILIES = ("gates", "rooms")  # the two that a weak verifier ranks poorly


def _count(rng: random.Random) -> Slots:
    return {"k": str(rng.randint(1, STRIDE))}


def _add(state: State, slots: Slots, sign: int, top: int) -> State | None:
    if not slots["k"].isdigit() or not 1 <= int(slots["k"]) <= STRIDE:
        return None
    return min(max(int(str(state)) + sign * int(slots["k"]), 0), top)


def _counting(sign: int, top: int, *wordings: str) -> Move:
    """Add or take a small number, within 0 to `top`."""
    mark = "+" if sign > 0 else "-"
    return Move(
        wordings,
        _count,
        lambda s, slots: _add(s, slots, sign, top),
        lambda s, slots, after: f"{s} {mark} {slots['k']} is {after} .",
    )


def _sums() -> Chain:
    def start(slots: Slots) -> State | None:
        known = slots["who"] in PEOPLE and slots["noun"] in NOUNS and slots["n"].isdigit()
        return int(slots["n"]) if known and int(slots["n"]) <= TOP else None

    return Chain(
        name="sums",
        openings=("{who} has {n} {noun}.", "{who} starts with {n} {noun}."),
        moves=(
            _counting(1, TOP, "Then {k} more come.", "Next {k} are found."),
            _counting(-1, TOP, "Then {k} are lost.", "Next {k} are sold."),
        ),
        queries=("How many {noun} does {who} have?", "How many {noun} are left?"),
        draw=lambda rng: {
            "who": rng.choice(PEOPLE),
            "noun": rng.choice(NOUNS),
            "n": str(rng.randint(0, TOP)),
        },
        start=start,
        name_state=str,
        refer=lambda s, slots: f"{s} {slots['noun']}",
    )


def _letters() -> Chain:
    def start(slots: Slots) -> State | None:
        row = slots["row"].split(" ")
        return tuple(row) if len(row) == 3 and all(x in LETTERS and x for x in row) else None

    def move(word: str, order: tuple[int, ...], *wordings: str) -> Move:
        return Move(
            wordings,
            lambda rng: {},
            lambda s, slots: tuple(s[i] for i in order) if isinstance(s, tuple) else None,
            lambda s, slots, after: (
                " ".join([word, *after, "."]) if isinstance(after, tuple) else ""
            ),
        )

    return Chain(
        name="letters",
        openings=("Write down {row}.", "Take the letters {row}."),
        moves=(
            move("turn", (2, 1, 0), "Reverse them.", "Turn the row around."),
            move("left", (1, 2, 0), "Move the first one to the end.", "Put the first one last."),
            move("right", (2, 0, 1), "Move the last one to the front.", "Put the last one first."),
            move("swap", (1, 0, 2), "Swap the first two.", "Exchange the first two."),
        ),
        queries=("What does the row say?", "Which row is left?"),
        draw=lambda rng: {"row": " ".join(rng.sample(LETTERS, 3))},
        start=start,
        name_state=lambda s: " ".join(s) if isinstance(s, tuple) else str(s),
        refer=lambda s, slots: "the row " + (" ".join(s) if isinstance(s, tuple) else str(s)),
    )


def _trades() -> Chain:
    holders = PEOPLE[:4]  # few, so that most trades matter and leaving one out rarely goes well

    def pair(rng: random.Random) -> Slots:
        a, b = rng.sample(holders, 2)
        return {"a": a, "b": b}

    def trade(state: State, slots: Slots) -> State | None:
        a, b = slots["a"], slots["b"]
        if a not in holders or b not in holders:
            return None
        return b if state == a else a if state == b else state

    return Chain(
        name="trades",
        openings=("{who} holds the {thing}.", "The {thing} begins with {who}."),
        moves=(
            Move(
                ("{a} and {b} trade what they hold.", "Now {a} and {b} trade."),
                pair,
                trade,
                lambda s, slots, after: f"{slots['a']} {slots['b']} so {after} .",
            ),
        ),
        queries=("Who holds the {thing}?", "Who ends up with the {thing}?"),
        draw=lambda rng: {"who": rng.choice(holders), "thing": rng.choice(THINGS)},
        start=lambda slots: (
            slots["who"] if slots["who"] in holders and slots["thing"] in THINGS else None
        ),
        name_state=str,
        refer=lambda s, slots: f"{s} holds the {slots['thing']}",
    )


def _gates() -> Chain:
    return Chain(
        name="gates",
        openings=("You stand at gate {n}.", "Begin at gate {n}."),
        moves=(
            _counting(1, len(BIRDS) - 1, "Walk {k} gates on.", "Pass {k} gates forward."),
            _counting(-1, len(BIRDS) - 1, "Walk {k} gates back.", "Return by {k} gates."),
        ),
        queries=("Which bird guards your gate?", "Which bird sits there?"),
        draw=lambda rng: {"n": str(rng.randrange(len(BIRDS)))},
        start=lambda slots: (
            int(slots["n"]) if slots["n"].isdigit() and int(slots["n"]) < len(BIRDS) else None
        ),
        name_state=str,
        refer=lambda s, slots: f"the {BIRDS[int(str(s))]}",
    )


def _rooms() -> Chain:
    def shift(state: State, rows: int, columns: int) -> State:
        row, column = ROWS.index(str(state)[0]) + rows, COLUMNS.index(str(state)[1]) + columns
        return (
            ROWS[min(max(row, 0), len(ROWS) - 1)] + COLUMNS[min(max(column, 0), len(COLUMNS) - 1)]
        )

    def move(rows: int, columns: int, *wordings: str) -> Move:
        word = wordings[0].split(" ")[-1].rstrip(".")
        return Move(
            wordings,
            lambda rng: {},
            lambda s, slots: shift(s, rows, columns),
            lambda s, slots, after: f"{word} {after} .",
        )

    return Chain(
        name="rooms",
        openings=("Enter at room {n}.", "You wake in room {n}."),
        moves=(
            move(-1, 0, "Climb one floor up.", "Take the stairs up."),
            move(1, 0, "Climb one floor down.", "Take the stairs down."),
            move(0, 1, "Go one door right.", "Step right."),
            move(0, -1, "Go one door left.", "Step left."),
        ),
        queries=("Who lives in that room?", "Whose room is it?"),
        draw=lambda rng: {"n": rng.choice(ROOMS)},
        start=lambda slots: slots["n"] if slots["n"] in ROOMS else None,
        name_state=str,
        refer=lambda s, slots: f"{TENANTS[ROOMS.index(str(s))]} lives there",
    )


CHAINS: dict[str, Chain] = {f.name: f for f in (_sums(), _letters(), _trades(), _gates(), _rooms())}
