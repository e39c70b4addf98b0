"""Which proposals become candidates, and why the others do not."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import GeneratorConfig
from pipeline.curriculum import Seen, gives_away, sift
from pipeline.types import Group, Rollout, Task, Transcript

CONFIG = GeneratorConfig()
TEXT = "Ann has 12 apples. She gives 3 to Bob. How many has she now?"
WORDS = (*"1234567.", "ann", "bob", "cy", "dot", "eve", "has", "gives", "takes", "finds", "apples")


def proposal(seat: int, question: str, form: str = "ok") -> tuple[Rollout, Transcript]:
    rollout = Rollout(f"r01-p00-g{seat}", (), (), (), "", "end", seat, "generator@0")
    return rollout, Transcript(form, question, "nine") if form == "ok" else Transcript(form)


def group_of(*proposals: tuple[Rollout, Transcript], parent: str = "Count them.") -> Group:
    task = Task("seed-00007", parent, "six", "human")
    rollouts, transcripts = zip(*proposals, strict=True)
    return Group("r01-p00", "generator", task, rollouts, transcripts)


def seen_with(**texts: str) -> Seen:
    seen = Seen(0.95)
    for kind, text in texts.items():
        seen.add(kind, text)
    return seen


def within(limit: int) -> Callable[[str], bool]:
    """Whether a text has at most so many characters."""
    return lambda text: len(text) <= limit


def drops(seen: Seen, *questions: str, limit: int = 500) -> list[str]:
    group = group_of(*(proposal(seat, text) for seat, text in enumerate(questions)))
    return [e.drop for e in sift([group], seen, CONFIG, round=1, fits=within(limit)).evidence[0]]


def test_likeness_is_the_share_of_common_word_triples():
    # ends padded, "a b c" has 5 triples, "a b d" 5, of which two are common: 2 of 8
    similarity, kind = seen_with(task="a b c").nearest("a b d")
    assert (similarity, kind) == (0.25, "task")


def test_nothing_seen_is_like_nothing():
    assert Seen(0.95).nearest(TEXT) == (0.0, None)
    assert seen_with(task="x y z").nearest(TEXT) == (0.0, None)


@pytest.mark.parametrize(
    "copy",
    [
        TEXT,
        f"  {TEXT.upper()}\n",
        TEXT.replace("?", " ?"),
        TEXT.replace("12", "\uff11\uff12"),
        TEXT[:-1],
    ],
)
def test_case_width_and_spacing_make_no_new_text(copy):
    assert seen_with(seed=TEXT).nearest(copy) == (1.0, "seed")


@pytest.mark.parametrize(
    ("old", "new"), [("12", "13"), ("3", "30"), ("Bob", "Cy"), ("apples", "pears")]
)
def test_a_number_or_a_name_makes_another_task(old, new):
    similarity, _ = seen_with(seed=TEXT).nearest(TEXT.replace(old, new))
    assert 0.5 < similarity < 0.95


def test_one_number_in_a_hundred_words_still_makes_another_task():
    words = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(100)]
    other = [*words[:50], "7", *words[51:]]
    similarity, _ = seen_with(seed=" ".join(words)).nearest(" ".join(other))
    assert similarity == pytest.approx(99 / 105)
    assert similarity < 0.95


def test_a_text_of_many_words_with_one_changed_is_a_copy():
    words = [str(n) for n in range(200)]
    seen = seen_with(task=" ".join(words))
    assert drops(seen, " ".join(["x", *words[1:]]), limit=5000) == ["copy_of_task"]


def test_scripts_without_spaces_are_compared_by_character():
    text = (
        "\u592a\u90ce\u306f\u308a\u3093\u3054\u3092\u4e09\u3064\u6301\u3063\u3066\u3044\u307e\u3059"
    )
    similarity, _ = seen_with(task=text).nearest(text.replace("\u4e09", "\u4e94"))
    assert 0.5 < similarity < 0.95


def test_the_first_of_equal_texts_keeps_its_kind():
    seen = seen_with(seed=TEXT, probe=TEXT.lower())
    assert len(seen) == 1
    assert seen.nearest(TEXT) == (1.0, "seed")


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), max_size=8), st.data())
def test_the_index_finds_what_comparing_with_every_text_finds(texts, data):
    def triples(text):
        words = ["", "", *text.rstrip(" .").split(), "", ""]
        return set(zip(words, words[1:], words[2:], strict=False)) if len(words) > 4 else set()

    seen = Seen(0.95)
    for text in texts:
        seen.add("task", text)
    query = data.draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join))
    own = triples(query)
    shares = [len(own & triples(t)) / len(own | triples(t)) for t in texts if own | triples(t)]
    if own:
        assert seen.nearest(query)[0] == pytest.approx(max(shares, default=0.0))


def test_thousands_of_texts_cost_milliseconds_a_question():
    # measured at 0.1 ms; the bound leaves room for a busy machine
    rng = random.Random(1)
    seen = Seen(0.95)
    for _ in range(5000):
        seen.add("task", " ".join(rng.choices(WORDS, k=40)))
    queries = [" ".join(rng.choices(WORDS, k=40)) for _ in range(50)]
    start = time.process_time()
    for query in queries:
        seen.nearest(query)
    assert (time.process_time() - start) / 50 < 0.02


def test_every_drop_has_its_reason():
    seen = seen_with(seed="One is here?", task="Two is here?", probe="Three is here?")
    group = group_of(
        proposal(0, "", "unclosed"),
        proposal(1, " \n"),
        proposal(2, "x" * 21),
        proposal(3, "one is HERE"),
        proposal(4, "Two is here ?"),
        proposal(5, "Three is here?"),
        proposal(6, "Four is here?"),
        proposal(7, "four is here"),
    )
    proposed = sift([group], seen, CONFIG, round=1, fits=within(20))
    assert [e.drop for e in proposed.evidence[0]] == [
        "malformed",
        "no_question",
        "too_long",
        "copy_of_seed",
        "copy_of_task",
        "copy_of_probe",
        "admitted",
        "duplicate_in_round",
    ]
    kept = [task is not None for task in proposed.candidates[0]]
    assert kept == [False] * 6 + [True, False]
    assert proposed.evidence[0][3].similarity == 1.0
    assert proposed.evidence[0][6].similarity < 0.95


@pytest.mark.parametrize("mark", ["?", "\u037e", "\u061f", "\uff1f"])
def test_a_proposal_like_a_question_must_ask_one(mark):
    group = group_of(
        proposal(0, "Two and two."), proposal(1, f"Two and two{mark}"), parent="How many?"
    )
    found = sift([group], Seen(0.95), CONFIG, round=1, fits=within(50)).evidence[0]
    assert [e.drop for e in found] == ["no_question", "admitted"]


def test_a_candidate_waits_for_its_consensus():
    proposed = sift([group_of(proposal(0, TEXT))], Seen(0.95), CONFIG, round=3, fits=within(500))
    (task,) = proposed.candidates[0]
    assert task == Task(
        id="t-r01-p00-g0",
        question=TEXT,
        reference="",
        origin="consensus",
        confidence=0.0,
        round=3,
        parent_id="seed-00007",
        proposal_id="r01-p00-g0",
    )
    assert proposed.evidence[0][0].task_id == task.id


def test_a_stated_reference_is_taken_at_half_confidence():
    config = GeneratorConfig(references="stated")
    proposed = sift([group_of(proposal(0, TEXT))], Seen(0.95), config, round=1, fits=within(500))
    (task,) = proposed.candidates[0]
    assert (task.reference, task.origin, task.confidence) == ("nine", "generator", 0.5)


def test_duplicates_are_found_across_the_groups_of_a_round():
    groups = [group_of(proposal(0, TEXT)), group_of(proposal(1, TEXT))]
    proposed = sift(groups, Seen(0.95), CONFIG, round=1, fits=within(500))
    assert [e[0].drop for e in proposed.evidence] == ["admitted", "duplicate_in_round"]


def test_sifting_leaves_what_was_seen_as_it_was():
    seen = seen_with(seed="One is here?")
    assert drops(seen, TEXT) == drops(seen, TEXT) == ["admitted"]
    assert len(seen) == 1


def test_a_sibling_takes_nothing_from_the_novelty_of_another():
    near = TEXT.replace("12", "14")
    group = group_of(proposal(0, TEXT), proposal(1, near))
    proposed = sift([group], Seen(0.95), CONFIG, round=1, fits=within(500))
    assert [e.similarity for e in proposed.evidence[0]] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("question", "reference", "expected"),
    [
        ("Who guards it? The tall grey heron guards it.", "the tall grey heron", True),
        ("Who guards it? The TALL, grey heron!", "the tall grey heron", False),
        ("Who sees the grey heron?", "grey heron", False),
        ("What is a scatter brain?", "cat bra a", False),
        ("Who?", "", False),
    ],
)
def test_only_a_reference_of_three_words_or_more_can_be_given_away(question, reference, expected):
    assert gives_away(question, reference) is expected
