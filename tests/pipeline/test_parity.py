"""Engines held against the local one: figures on paper, and engines that are wrong in their way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.config import EngineConfig
from pipeline.engine.local import LocalEngine
from pipeline.engine.parity import (
    LONG,
    SEEDS,
    WRITTEN,
    Against,
    EngineMismatch,
    Paired,
    Probe,
)
from pipeline.engine.rows import Reader, Rows
from pipeline.engine.sampling import pick, streams
from pipeline.models.policy import borrowed, encode, merged_state
from pipeline.parity import CAP, Limits, Parity, difference, figures, mismatch_kl
from pipeline.ports import Sample, SampleRequest, ScoreRequest, Scores
from pipeline.types import Line
from tests.tiny import tiny_model, tiny_tokenizer

VOCAB, BLOCK = 264, 128
PROBE = Probe.of(partial(encode, tiny_tokenizer()), 512)


def test_the_figures_of_two_tokens_are_those_worked_by_hand() -> None:
    # d = 0.1 and -0.2: k3 is e^0.1 - 1.1 = 0.005171 and e^-0.2 - 0.8 = 0.018731, their mean
    # 0.011951; the scored token is 0.5 off and has no part in it
    found = figures([(-1.0, -0.9), (-2.0, -2.2)], [(-1.5, -2.0)])
    assert found.tokens == 3
    assert found.max_difference == pytest.approx(0.5)
    assert found.mean_difference == pytest.approx((0.1 + 0.2 + 0.5) / 3)
    assert found.mismatch_kl == pytest.approx(0.011951, abs=1e-6)


def test_one_token_is_worth_what_the_method_says_of_it() -> None:
    # lp -1.0, ref -1.5 and lp -2, ref -1: k3 0.106531 and 0.718282
    assert mismatch_kl([difference(-1.0, -1.5)]) == pytest.approx(0.106531, abs=1e-6)
    assert mismatch_kl([difference(-2.0, -1.0)]) == pytest.approx(0.718282, abs=1e-6)


def test_the_kl_is_that_of_the_two_distributions_over_what_the_engine_draws() -> None:
    # p = [.7, .2, .1] drawn in its own shares, q = [.5, .3, .2]: KL 0.085123
    p, q, shares = (0.7, 0.2, 0.1), (0.5, 0.3, 0.2), (7, 2, 1)
    pairs = [
        (math.log(a), math.log(b)) for a, b, n in zip(p, q, shares, strict=True) for _ in range(n)
    ]
    assert figures(pairs, []).mismatch_kl == pytest.approx(0.085123, abs=1e-6)


NUMBERS = st.floats(-30, 0)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6)


@given(PAIRS.flatmap(lambda pairs: st.tuples(st.just(pairs), st.permutations(pairs))))
def test_figures_do_not_hang_on_the_order_of_tokens(
    both: tuple[list[tuple[float, float]], list[tuple[float, float]]],
) -> None:
    pairs, moved = both
    assert figures(moved, moved) == figures(pairs, pairs)


@given(PAIRS)
def test_the_kl_is_never_negative_and_equals_differ_in_nothing(
    pairs: list[tuple[float, float]],
) -> None:
    assert (figures(pairs, []).mismatch_kl or 0.0) >= 0.0
    same = [(a, a) for a, _ in pairs]
    found = figures(same, same)
    assert (found.max_difference, found.mean_difference, found.mismatch_kl) == (0, 0, 0)


@pytest.mark.parametrize("odd", [float("nan"), float("-inf"), float("inf")])
def test_what_is_no_number_counts_as_the_most_that_a_token_can(odd: float) -> None:
    found = figures([(odd, -1.0)], [])
    assert found.max_difference == CAP
    assert math.isfinite(found.mismatch_kl or 0.0)
    assert not found.within(Limits(CAP / 2, 0.0))


def test_nothing_sampled_leaves_the_kl_open_and_a_bound_itself_is_within() -> None:
    found = figures([], [(-1.0, -1.5)])
    assert found.mismatch_kl is None
    assert found.within(Limits(0.5, 0.0))
    assert not found.within(Limits(0.25, 0.0))


def test_the_limit_of_a_token_is_the_formats_own_unless_one_is_set() -> None:
    assert Limits.of(EngineConfig(), "float32") == Limits(1e-4, 0.05)
    assert Limits.of(EngineConfig(), "bfloat16") == Limits(0.5, 0.05)
    assert Limits.of(EngineConfig(parity_difference=0.2, parity_kl=0.01), "float32") == Limits(
        0.2, 0.01
    )


def test_prompts_are_longer_than_a_block_of_keys_where_the_context_allows() -> None:
    assert {len(prompt) for prompt in PROBE.prompts} == {LONG}
    assert len(set(PROBE.prompts)) == len(PROBE.prompts)
    short = Probe.of(partial(encode, tiny_tokenizer()), 64)
    assert {len(prompt) for prompt in short.prompts} == {32}
    with pytest.raises(ValueError, match="32 tokens is too short"):
        Probe.of(partial(encode, tiny_tokenizer()), 32)


def local(state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> LocalEngine:
    model = borrowed(tiny_model(vocab=VOCAB), state, dtype, "cpu")
    return LocalEngine(model, eos_ids=frozenset({1}), pad_id=0, version="local")


def weights(seed: int) -> dict[str, Tensor]:
    return merged_state(tiny_model(seed, vocab=VOCAB))


class Honest:
    """An engine that answers as its weights do."""

    def __init__(self) -> None:
        self.model = tiny_model(vocab=VOCAB)
        self.inner = LocalEngine(self.model, eos_ids=frozenset({1}), pad_id=0, version="solver@0")
        self.closed = False

    @property
    def version(self) -> str:
        return self.inner.version

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        self.inner.load(state, version)

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        return self.inner.sample(requests, max_tokens=max_tokens, temperature=temperature)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Scores]:
        return self.inner.score(requests)

    def confide(self, requests: Sequence[ScoreRequest]):
        return self.inner.confide(requests)

    def close(self) -> None:
        self.closed = True


class Moved(Honest):
    """Takes weights with a small error."""

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        super().load({name: weight * 1.01 for name, weight in state.items()}, version)


class Deaf(Honest):
    """Says that it took the weights."""

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        super().load(weights(0), version)


class Forgetful(Honest):
    """Takes the weights and goes by the old name."""

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        super().load(state, self.version)


class Caching(Honest):
    """Keeps the keys of every first block of a prompt; drops them on a load, or does not."""

    def __init__(self, *, drops: bool) -> None:
        super().__init__()
        self.reader, self.drops = Reader.of(self.model), drops
        self.blocks: dict[tuple[int, ...], Rows] = {}

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        super().load(state, version)
        if self.drops:
            self.blocks.clear()

    @torch.inference_mode()
    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        return [
            tuple(
                self._draw(request.prompt, streams([seed], max_tokens)[0], temperature)
                for seed in request.seeds
            )
            for request in requests
        ]

    def _draw(self, prompt: tuple[int, ...], uniforms: Sequence[float], heat: float) -> Sample:
        first, rest = prompt[:BLOCK], torch.tensor([prompt[BLOCK:]])
        if first not in self.blocks:
            self.blocks[first] = self.reader.empty(1, BLOCK)
            ids = torch.tensor([first])
            self.blocks[first].read(ids, torch.ones_like(ids, dtype=torch.bool))
        rows = self.blocks[first].repeat(torch.tensor([0]), len(prompt) + len(uniforms))
        logits = rows.last_logits(rest, torch.ones_like(rest, dtype=torch.bool))
        tokens, logprobs = [], []
        for uniform in uniforms:
            token, logprob = pick(logits, torch.tensor([uniform]), heat)
            tokens.append(int(token))
            logprobs.append(float(logprob))
            if tokens[-1] == 1:
                return Sample(tuple(tokens), tuple(logprobs), "end")
            logits = rows.step(token)
        return Sample(tuple(tokens), tuple(logprobs), "length")


class Straying(Honest):
    """Scores by the weights it was handed, and samples by others."""

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        return local(weights(0)).sample(requests, max_tokens=max_tokens, temperature=temperature)


class Raw(Honest):
    """Tells of a completion what the logits alone say, whatever the temperature."""

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        made = super().sample(requests, max_tokens=max_tokens, temperature=temperature)
        asked = [
            ScoreRequest(request.prompt, ((),), (tuple(sample.tokens for sample in group),))
            for request, group in zip(requests, made, strict=True)
        ]
        return [
            tuple(replace(s, logprobs=n) for s, n in zip(group, told, strict=True))
            for group, [told] in zip(made, self.score(asked), strict=True)
        ]


def pair(engine: Honest, told: list[Parity], line: Line = "solver") -> Paired:
    limits = Limits.of(EngineConfig(), "float32")
    against = Against("served", line, local, PROBE, limits, told.append)
    return Paired(engine, weights(0), against)


ASK = [ScoreRequest((5, 6), ((),), (((7, 8),),))]


def test_an_engine_that_answers_as_its_weights_do_passes_at_its_start_and_after_every_load() -> (
    None
):
    told: list[Parity] = []
    engine = Honest()
    paired = pair(engine, told)
    assert told == []  # nothing was asked yet
    assert paired.score(ASK) == local(weights(0)).score(ASK)
    paired.load(weights(3), "solver@3")
    assert paired.score(ASK) == local(weights(3)).score(ASK)
    assert [(one.version, one.step, one.accepted) for one in told] == [
        ("solver@0", 0, True),
        ("solver@3", 3, True),
    ]
    for one in told:
        fixed = sum(len(t) for r in PROBE.scoring() for c in r.targets for t in c)
        assert fixed < one.figures.tokens <= fixed + len(PROBE.prompts) * len(SEEDS) * WRITTEN
        assert one.figures.max_difference <= 1e-4
        assert one.figures.mismatch_kl is not None
        assert one.figures.mismatch_kl < 1e-8
    paired.close()
    assert engine.closed


@pytest.mark.parametrize("kind", [Moved, Deaf])
def test_an_engine_under_other_weights_is_refused_with_figures_and_answers_nothing(
    kind: type[Honest],
) -> None:
    told: list[Parity] = []
    paired = pair(kind(), told)
    paired.prove()
    with pytest.raises(EngineMismatch, match=r"does not answer as solver@2 does: over \d+ tokens"):
        paired.load(weights(2), "solver@2")
    assert [one.accepted for one in told] == [True, False]
    assert told[-1].figures.max_difference > 1e-4
    for ask in (paired.score, paired.confide):
        with pytest.raises(EngineMismatch, match=r"limit 0\.0001.*\n.*engine.parity_difference"):
            ask(ASK)


def test_an_engine_that_goes_by_another_version_is_refused_though_its_figures_are_well() -> None:
    told: list[Parity] = []
    paired = pair(Forgetful(), told)
    with pytest.raises(EngineMismatch, match="as solver@2 does and says that it holds solver@0"):
        paired.load(weights(2), "solver@2")
    assert (told[0].accepted, told[0].figures.within(told[0].limits)) == (False, True)


def test_keys_of_older_weights_are_found_and_dropping_them_mends_it() -> None:
    fresh, stale = [], []
    paired = pair(Caching(drops=True), fresh)
    paired.prove()
    paired.load(weights(2), "solver@2")
    assert [one.accepted for one in fresh] == [True, True]
    paired = pair(Caching(drops=False), stale)
    paired.prove()
    with pytest.raises(EngineMismatch):
        paired.load(weights(2), "solver@2")
    assert [one.accepted for one in stale] == [True, False]
    assert stale[0].figures == fresh[0].figures
    assert stale[1].figures.mismatch_kl > stale[1].limits.kl


def test_the_proxys_engine_is_refused_for_what_it_samples_though_it_scores_well() -> None:
    told: list[Parity] = []
    paired = pair(Straying(), told, "proxy")
    with pytest.raises(EngineMismatch, match="does not answer as proxy@4"):
        paired.load(weights(2), "proxy@4")
    assert (told[0].line, told[0].step, told[0].accepted) == ("proxy", 4, False)


def test_an_engine_that_tells_log_probabilities_of_another_temperature_is_refused() -> None:
    told: list[Parity] = []
    with pytest.raises(EngineMismatch):
        pair(Raw(), told).prove()
    assert told[0].figures.max_difference > 100 * told[0].limits.difference
    ask = [SampleRequest((5, 6), (1,))]
    [[raw]] = Raw().sample(ask, max_tokens=8, temperature=1.0)
    [[honest]] = Honest().sample(ask, max_tokens=8, temperature=1.0)
    assert raw.logprobs == pytest.approx(honest.logprobs, abs=1e-5)  # at 1 nothing shows


def test_weights_in_bfloat16_pass_the_limits_of_their_format_alone() -> None:
    told: list[Parity] = []
    against = Against(
        "served", "solver", lambda state: local(state, torch.bfloat16), PROBE,
        Limits.of(EngineConfig(), "float32"), told.append,
    )  # fmt: skip
    with pytest.raises(EngineMismatch):
        Paired(Honest(), weights(0), against).prove()
    assert told[0].figures.within(Limits.of(EngineConfig(), "bfloat16"))


def test_a_borrowed_model_reads_the_weights_where_they_lie() -> None:
    state = weights(2)
    twin = borrowed(tiny_model(vocab=VOCAB), state, torch.float32, "cpu")
    assert {w.data_ptr() for w in twin.parameters()} == {w.data_ptr() for w in state.values()}
    rounded = borrowed(tiny_model(vocab=VOCAB), state, torch.bfloat16, "cpu")
    assert {w.dtype for w in rounded.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in rounded.buffers()} == {torch.float32}
    with pytest.raises(ValueError, match="weights do not fit"):
        borrowed(tiny_model(layers=1, vocab=VOCAB), state, torch.float32, "cpu")
