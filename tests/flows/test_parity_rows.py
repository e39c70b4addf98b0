"""Whole runs over a script whose engine is held against another under the same weights."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from torch import Tensor

from flows.live import Live
from flows.stages import take_stage, to_do
from pipeline.config import EngineConfig
from pipeline.engine.parity import Against, EngineMismatch, Paired, Probe
from pipeline.models.policy import encode, fingerprint, merged_state
from pipeline.parity import Limits, Parity
from pipeline.ports import Confidences, Sample, SampleRequest, ScoreRequest, Scores, WeightedEngine
from store import questions
from store.invariants import verify
from store.ledger import steps_done
from store.parities import parities
from tests.flows.scripted import CONTEXT, Bench, Speaker, scripted_parts
from tests.flows.test_cli import coclimb
from tests.tiny import tiny_model, tiny_tokenizer

LIMITS = Limits.of(EngineConfig(), "float32")
PROBE = Probe.of(partial(encode, tiny_tokenizer()), CONTEXT)
START = merged_state(tiny_model(vocab=264))


class Weighing:
    """A speaker that weighs by the weights it holds, and says of a completion what it weighs."""

    def __init__(self, speaker: Speaker) -> None:
        self.speaker = speaker
        self.print = fingerprint(START)

    @property
    def version(self) -> str:
        return self.speaker.engine.version

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        self.print = fingerprint(state)
        self.speaker.load(state, version)

    def weigh(self, before: Sequence[int], target: Sequence[int]) -> tuple[float, ...]:
        rng = random.Random(f"{before}/{self.print}")
        return tuple(-rng.uniform(0.05, 2.0) for _ in target)

    def sample(
        self, requests: Sequence[SampleRequest], *, max_tokens: int, temperature: float
    ) -> list[tuple[Sample, ...]]:
        made = self.speaker.engine.sample(requests, max_tokens=max_tokens, temperature=temperature)
        return [
            tuple(replace(s, logprobs=self.weigh(request.prompt, s.tokens)) for s in group)
            for request, group in zip(requests, made, strict=True)
        ]

    def score(self, requests: Sequence[ScoreRequest], *, temperature: float = 1.0) -> list[Scores]:
        return [
            tuple(
                tuple(self.weigh(request.prompt + context, target) for target in targets)
                for context, targets in zip(request.contexts, request.targets, strict=True)
            )
            for request in requests
        ]

    def confide(self, requests: Sequence[ScoreRequest]) -> list[Confidences]:
        return self.speaker.engine.confide(requests)

    def close(self) -> None:
        pass


class Deaf(Weighing):
    """From the third step on it takes no weights, and says that it did."""

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        held = self.print
        super().load(state, version)
        if version == "solver@3":
            self.print = held


def bare(speaker: Speaker, _: list[Parity]) -> WeightedEngine:
    return Weighing(speaker)


def paired(kind: type[Weighing], speaker: Speaker, told: list[Parity]) -> WeightedEngine:
    def local(state: Mapping[str, Tensor]) -> Weighing:
        reference = Weighing(Speaker(speaker.prompts, "local"))
        reference.load(state, "local")
        return reference

    against = Against("served", "solver", local, PROBE, LIMITS, told.append)
    return Paired(kind(speaker), START, against)


def bench(folder: Path, wrap) -> Bench:
    return Bench(folder, assembled=partial(scripted_parts, wrap=wrap))


HONEST, DEAF = partial(paired, Weighing), partial(paired, Deaf)


def versions(made: Bench) -> list[tuple[object, object]]:
    return [(row["version"], row["accepted"]) for row in parities(made.store, made.run)]


def test_a_run_tells_of_its_engine_at_the_start_and_after_every_publish(tmp_path: Path) -> None:
    plain, held = bench(tmp_path / "plain", bare), bench(tmp_path / "held", HONEST)
    plain.go_on()
    live = held.go_on()
    assert versions(held) == [(f"solver@{step}", True) for step in range(5)]
    assert (versions(plain), live.parts.parities) == ([], [])
    assert {row["max_difference"] for row in parities(held.store, held.run)} == {0.0}
    assert held.chain() == plain.chain() != []
    assert verify(held.store)["violations"] == []


def test_a_refusal_ends_the_run_with_its_figures_and_a_mended_engine_goes_on(
    tmp_path: Path,
) -> None:
    whole, broken = bench(tmp_path / "whole", HONEST), bench(tmp_path / "broken", DEAF)
    whole.go_on()
    with pytest.raises(EngineMismatch, match="served does not answer as solver@3 does"):
        broken.go_on()
    [run] = questions.runs(broken.store)
    assert run["status"] == "failed"
    assert str(run["reason"]).startswith("EngineMismatch: served does not answer as solver@3")
    assert "(limit 0.0001" in str(run["reason"])
    assert versions(broken) == [
        ("solver@0", True), ("solver@1", True), ("solver@2", True), ("solver@3", False),
    ]  # fmt: skip
    assert steps_done(broken.store, broken.run, 2) == 0  # what came after was never committed
    broken.assembled = partial(scripted_parts, wrap=HONEST)
    broken.go_on()
    assert versions(broken)[4:] == [("solver@2", True), ("solver@3", True), ("solver@4", True)]
    assert broken.chain() == whole.chain()
    assert verify(broken.store)["violations"] == []


def test_an_engine_refused_while_a_run_is_restored_is_told_of_too(tmp_path: Path) -> None:
    made = bench(tmp_path, HONEST)

    def first_round(live: Live) -> None:
        for round, stage in to_do(live):
            if round < 2:
                take_stage(live, round, stage)

    made.go_on(work=first_round)
    made.assembled = partial(scripted_parts, wrap=partial(paired, Stale))
    with pytest.raises(EngineMismatch):
        made.go_on()
    assert versions(made)[-1] == ("solver@2", False)


class Stale(Weighing):
    """Takes no weights at all."""

    def load(self, state: Mapping[str, Tensor], version: str) -> None:
        self.speaker.load(state, version)


def test_comparisons_can_be_listed_and_exported(tmp_path: Path) -> None:
    bench(tmp_path, HONEST).go_on()
    told = coclimb(tmp_path, "rounds", "run", "--engines").stdout
    assert "max_difference" in told
    assert told.count("served") == 5
    assert '"version": "solver@4"' in coclimb(tmp_path, "rounds", "--engines", "--json").stdout
    out = tmp_path / "engines.jsonl"
    coclimb(tmp_path, "export", "run", "--what", "engines", "--to", str(out))
    assert len(out.read_text().splitlines()) == 5
    refused = coclimb(tmp_path, "rounds", "--engines", "--steps", code=2)
    assert "two listings" in refused.stderr
