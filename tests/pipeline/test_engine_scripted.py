from __future__ import annotations

from pipeline.engine.local import LocalEngine
from pipeline.engine.scripted import ScriptedEngine
from pipeline.ports import Confidence, Engine, SampleRequest, ScoreRequest
from tests.tiny import tiny_model


def echo(prompt: tuple[int, ...], seed: int) -> tuple[int, ...]:
    """The prompt, the seed, and the end token."""
    return (*prompt, seed, 1)


def test_a_script_answers_by_prompt_and_seed_and_stops_at_the_end_or_the_budget() -> None:
    engine = ScriptedEngine(echo)
    requests = [SampleRequest((5,), (7, 8)), SampleRequest((5, 6), (7,))]
    (first, second), (third,) = engine.sample(requests, max_tokens=3, temperature=1.0)
    assert (first.tokens, first.stop) == ((5, 7, 1), "end")
    assert second.tokens == (5, 8, 1)
    assert (third.tokens, third.stop) == ((5, 6, 7), "length")
    assert third.logprobs == (-1.0, -1.0, -1.0)


def test_a_script_weighs_each_target_by_all_that_precedes_it() -> None:
    engine = ScriptedEngine(echo, lambda before, target: (-float(len(before)),) * len(target))
    request = ScoreRequest((5,), ((), (6, 7)), (((8,), (8, 9)), ((8,),)))
    assert engine.score([request]) == [(((-1.0,), (-1.0, -1.0)), ((-3.0,),))]
    assert engine.calls == {"sample": 0, "score": 1, "confide": 0}


def test_a_script_confides_what_it_weighs_and_how_sure_it_is() -> None:
    engine = ScriptedEngine(
        echo,
        lambda before, target: (-float(len(before)),) * len(target),
        sure=lambda before, target: (tuple(map(float, target)), (0.5,) * len(target)),
    )
    request = ScoreRequest((5,), ((), (6,)), (((8,),), ((8, 9),)))
    assert engine.confide([request]) == [
        ((Confidence((-1.0,), (8.0,), (0.5,)),), (Confidence((-2.0,) * 2, (8.0, 9.0), (0.5,) * 2),))
    ]
    assert engine.calls["confide"] == 1


def test_both_engines_fill_the_port() -> None:
    engines: list[Engine] = [
        ScriptedEngine(echo),
        LocalEngine(tiny_model(), eos_ids=frozenset({1}), pad_id=0, version="solver@0"),
    ]
    assert [engine.version for engine in engines] == ["script@0", "solver@0"]
