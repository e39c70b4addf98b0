"""Solver, generator and verifier over an engine that answers from a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from agents.generators.evolve import Evolve
from agents.prompts import Prompts
from agents.solver import SamplingSolver
from agents.verifiers.perplexity import Perplexity
from pipeline.config import GeneratorConfig, SolverConfig, TagsConfig, VerifierConfig
from pipeline.engine.local import LocalEngine
from pipeline.ports import Sample, SampleRequest, ScoreRequest, Scores
from pipeline.types import Group, Rollout, Task, Transcript
from tests.tiny import merging_tokenizer, tiny_model, tiny_tokenizer

END = 1


@dataclass
class Script:
    """An engine: completions by seed, scores by the text of context and target."""

    prompts: Prompts
    said: dict[int, str] = field(default_factory=dict)
    likely: dict[tuple[str, str], float] = field(default_factory=dict)
    version: str = "proxy@0"
    scored: int = 0

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        return [
            tuple(self._one(seed, max_tokens) for seed in request.seeds) for request in requests
        ]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        self.scored += sum(len(r.contexts) for r in requests)
        return [
            tuple(
                tuple(self._row(context, t) for t in targets)
                for context, targets in zip(r.contexts, r.targets, strict=True)
            )
            for r in requests
        ]

    def _one(self, seed: int, most: int) -> Sample:
        ids = (*self.prompts.tokenizer.encode(self.said[seed], add_special_tokens=False), END)[
            :most
        ]
        return Sample(ids, (-0.5,) * len(ids), "end" if ids[-1] == END else "length")

    def _row(self, context: tuple[int, ...], target: tuple[int, ...]) -> tuple[float, ...]:
        key = (self.prompts.decode(context), self.prompts.decode(target))
        return (math.log(self.likely.get(key, 0.01)),) * len(target)


@pytest.fixture
def prompts() -> Prompts:
    return Prompts(tiny_tokenizer(), TagsConfig(), "plain")


def task(reference: str = "4") -> Task:
    return Task("seed-1", "2 + 2?", reference, "human")


def test_an_attempt_is_parsed_and_its_written_tokens_marked(prompts: Prompts) -> None:
    engine = Script(prompts, said={7: "<think>so</think><answer>4</answer>", 8: "four"})
    [group] = SamplingSolver(engine, prompts, SolverConfig(), 500).attempt(
        [task()], [[7, 8]], ["g"]
    )
    assert [t.form for t in group.transcripts] == ["ok", "missing_reasoning"]
    assert (group.transcripts[0].first, group.transcripts[0].final) == ("so", "4")
    first = group.rollouts[0]
    read = len(prompts.attempt("2 + 2?"))
    assert first.written == (False,) * read + (True,) * (len(first.tokens) - read)
    assert first.completion == "<think>so</think><answer>4</answer>"
    assert [r.id for r in group.rollouts] == ["g-g0", "g-g1"]


def test_an_attempt_cut_by_its_budget_is_truncated(prompts: Prompts) -> None:
    engine = Script(prompts, said={7: "<think>so</think><answer>4</answer>"})
    [group] = SamplingSolver(engine, prompts, SolverConfig(max_tokens=5), 500).attempt(
        [task()], [[7]], ["g"]
    )
    assert group.rollouts[0].stop == "length"
    assert group.transcripts[0].form == "truncated"


def test_a_proposal_is_a_rollout_with_a_question_and_a_stated_reference(prompts: Prompts) -> None:
    engine = Script(prompts, said={1: "<task>3 + 3?</task><answer>6</answer>"})
    [group] = Evolve(engine, prompts, GeneratorConfig(), 500).propose([task()], [[1]], ["p"])
    assert group.role == "generator"
    assert (group.transcripts[0].first, group.transcripts[0].final) == ("3 + 3?", "6")


def test_a_question_fits_where_its_prompt_and_the_longest_text_do(prompts: Prompts) -> None:
    engine, long = Script(prompts), "日" * 50  # 150 tokens in 50 characters
    asked, shown = len(prompts.attempt(long)), len(prompts.proposal(long))
    assert asked > 150
    for room, fits in ((asked + 7, True), (asked + 6, False)):
        assert SamplingSolver(engine, prompts, SolverConfig(max_tokens=7), room).fits(long) is fits
    for room, fits in ((shown + 9, True), (shown + 8, False)):
        assert Evolve(engine, prompts, GeneratorConfig(max_tokens=9), room).fits(long) is fits


def test_what_fits_is_what_the_engine_samples(prompts: Prompts) -> None:
    model = tiny_model(vocab=264)  # reads 512 tokens
    engine = LocalEngine(model, eos_ids=frozenset({END}), pad_id=0, version="solver@0")
    solver = SamplingSolver(engine, prompts, SolverConfig(max_tokens=4), 512)
    empty = len(prompts.attempt(""))
    for length, fits in ((512 - 4 - empty, True), (512 - 3 - empty, False)):
        long = replace(task(), question="x" * length)
        assert solver.fits(long.question) is fits
        if fits:
            solver.attempt([long], [[1]], ["g"])
        else:
            with pytest.raises(ValueError, match="the model reads 512"):
                solver.attempt([long], [[1]], ["g"])


def attempted(transcripts: Sequence[Transcript], reference: str = "4") -> Group:
    rollouts = tuple(
        Rollout(f"g-{i}", (), (), (), "", "end", i, "solver@0") for i in range(len(transcripts))
    )
    return Group("g", "solver", task(reference), rollouts, tuple(transcripts))


def verifier(engine: Script, context: int = 200) -> Perplexity:
    return Perplexity(engine, engine.prompts, VerifierConfig(), context)


def test_the_reference_is_scored_with_and_without_each_reasoning(prompts: Prompts) -> None:
    target = "4</answer>"
    likely = {("<think>so</think><answer>", target): 0.5, ("<answer>", target): 0.25}
    engine = Script(prompts, likely=likely)
    group = attempted([Transcript("ok", "so", "5"), Transcript("nested")])
    [(good, bad)] = verifier(engine).measure([group])
    length = len(prompts.closed_reference("4"))
    assert good.status == "measured"
    assert good.reference_logprobs == (math.log(0.5),) * length
    assert good.baseline_logprobs == (math.log(0.25),) * length
    assert good.reasoning_tokens == 2  # the two bytes of "so"
    assert (bad.status, bad.detail) == ("malformed", "nested")


def test_what_is_scored_is_what_was_sampled_to_the_token(prompts: Prompts) -> None:
    said = "<think>  so\n</think>\n<answer> 5 </answer>"
    engine = Script(prompts, said={1: said})
    [group] = SamplingSolver(engine, prompts, SolverConfig(), 500).attempt([task()], [[1]], ["g"])
    engine.likely = {("<think>  so\n</think>\n<answer>", "4</answer>"): 0.5}
    [(evidence,)] = verifier(engine).measure([group])
    assert evidence.reference_logprobs[0] == math.log(0.5)


def test_a_reference_is_scored_behind_the_sampled_token_that_merged_the_tag() -> None:
    merged = Prompts(merging_tokenizer(), TagsConfig(), "instructed")
    engine = Script(merged, said={1: "<think>\nso\n</think>\n\n<answer>\n5\n</answer>"})
    [group] = SamplingSolver(engine, merged, SolverConfig(), 500).attempt([task()], [[1]], ["g"])
    engine.likely = {("<think>\nso\n</think>\n\n<answer>\n", "4</answer>"): 0.5}
    [(evidence,)] = verifier(engine, context=500).measure([group])
    assert evidence.reference_logprobs[0] == math.log(0.5)


def test_the_baseline_is_scored_once_per_task_and_proxy_version(prompts: Prompts) -> None:
    engine = Script(prompts)
    reads = verifier(engine)
    group = attempted([Transcript("ok", "so", "5")])
    reads.measure([group])
    assert engine.scored == 2
    reads.measure([group])
    assert engine.scored == 3
    engine.version = "proxy@5"
    [(evidence,)] = reads.measure([group])
    assert engine.scored == 5
    assert evidence.version == "proxy@5"


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_score_is_a_status(prompts: Prompts, broken: float) -> None:
    class Broken(Script):
        def _row(self, context: tuple[int, ...], target: tuple[int, ...]) -> tuple[float, ...]:
            return (broken,) * len(target)

    [(evidence,)] = verifier(Broken(prompts)).measure([attempted([Transcript("ok", "so", "5")])])
    assert evidence.status == "score_error"
    assert evidence.reference_logprobs == ()


def test_a_row_longer_than_the_context_is_refused_and_not_cut(prompts: Prompts) -> None:
    room = len(prompts.attempt("2 + 2?")) + len(prompts.answer("4")) + len(prompts.reasoning("so"))
    group = attempted([Transcript("ok", "so", "5"), Transcript("ok", "so long", "5")])
    [(short, long)] = verifier(Script(prompts), context=room).measure([group])
    assert (short.status, long.status) == ("measured", "too_long")


def test_consensus_is_the_answer_that_all_reasonings_make_likely(prompts: Prompts) -> None:
    # one vote each; under both reasonings "6" is likelier, so it wins without a majority
    likely = {
        ("<think>a</think><answer>", "5</answer>"): 0.60,
        ("<think>b</think><answer>", "5</answer>"): 0.60,
        ("<think>a</think><answer>", "6</answer>"): 0.80,
        ("<think>b</think><answer>", "6</answer>"): 0.80,
    }
    engine = Script(prompts, likely=likely)
    group = attempted(
        [Transcript("ok", "a", "5"), Transcript("ok", "b", "6"), Transcript("empty")], ""
    )
    [found] = verifier(engine).agree([group])
    assert found.answer == "6"
    length = len(prompts.closed_reference("5"))  # P(a) is 0.8^length against 0.6^length
    assert found.confidence == pytest.approx(0.8**length / (0.8**length + 0.6**length))


def test_what_consensus_scored_of_its_winner_is_not_scored_again(prompts: Prompts) -> None:
    engine = Script(prompts)
    reads = verifier(engine)
    group = attempted([Transcript("ok", "a", "5"), Transcript("ok", "b", "5")], "")
    [found] = reads.agree([group])
    before = engine.scored
    [evidence] = reads.measure([replace(group, task=replace(group.task, reference=found.answer))])
    assert engine.scored == before
    assert [e.status for e in evidence] == ["measured", "measured"]


def test_a_group_without_an_answer_has_no_consensus(prompts: Prompts) -> None:
    [found] = verifier(Script(prompts)).agree(
        [attempted([Transcript("empty"), Transcript("nested")], "")]
    )
    assert (found.answer, found.confidence) == ("", 0.0)


@pytest.mark.parametrize(("answered", "expected"), [(1, ""), (2, "5")])
def test_fewer_than_half_of_the_attempts_make_no_consensus(
    prompts: Prompts, answered: int, expected: str
) -> None:
    said = [Transcript("ok", "so", "5")] * answered + [Transcript("truncated")] * (4 - answered)
    engine = Script(prompts)
    [found] = verifier(engine).agree([attempted(said, "")])
    assert found.answer == expected
    assert bool(engine.scored) == bool(expected)
