"""What assembly refuses before anything of a run is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import normalizers

from flows.assemble import assemble, reader
from flows.bases import Bases
from flows.engines import Engines, context_of
from flows.settings import load_config
from pipeline.config import ModelConfig, RunConfig, TagsConfig
from pipeline.engine.served import EngineFailed
from pipeline.models.policy import BadModel
from pipeline.rewards.checks import Contradiction, problems
from tests.tiny import tiny_model, tiny_tokenizer


def test_a_run_is_refused_a_tokenizer_that_changes_its_own_tags(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.save_pretrained(tmp_path)
    tiny_model(vocab=264).save_pretrained(tmp_path)
    tags = TagsConfig(reasoning="Plan", answer="Final", task="exercise")
    config = RunConfig(model=ModelConfig(base=str(tmp_path)), tags=tags)
    for make in (assemble, reader):
        with pytest.raises(BadModel, match="changes a text"):
            make(config)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("verifier.also=['entropy']", r"'entropy' reads whole.*verifier\.certainty"),
        ("reward.name=self_certainty", r"'certainty' reads whole.*engine\.sampler"),
        ("solver.temperature=0.001", r"solver\.temperature.*0\.01 to 2"),
        ("generator.temperature=3", r"generator\.temperature.*0\.01 to 2"),
    ],
)
def test_what_a_served_sampler_cannot_do_is_refused_before_a_model_is_looked_for(
    change: str, told: str
) -> None:
    served = load_config(None, ["engine.sampler=vllm", change, "model.base=no/such/base"])
    with pytest.raises(Contradiction, match=told):
        assemble(served)
    assert list(problems(load_config(None, [change]))) == []


def test_certainty_of_the_first_weights_is_read_beside_a_served_sampler() -> None:
    changes = ["engine.sampler=vllm", "reward.name=self_certainty", "verifier.certainty=offline"]
    assert list(problems(load_config(None, changes))) == []


def test_a_run_reads_no_longer_rows_than_its_served_engine() -> None:
    assert context_of(load_config(None, ["engine.context=300"]), 512) == 512  # none is served
    assert context_of(load_config(None, ["engine.context=300", "engine.scorer=vllm"]), 512) == 300
    assert context_of(load_config(None, ["engine.context=900", "engine.scorer=vllm"]), 512) == 512
    assert context_of(load_config(None, ["engine.scorer=vllm"]), 512) == 512


@pytest.mark.parametrize("kind", ["sampler", "scorer"])
def test_a_served_engine_is_started_with_the_interpreter_of_the_configuration(kind: str) -> None:
    config = load_config(None, [f"engine.{kind}=vllm", "engine.python=/nowhere/python"])
    engines = Engines(Bases(config.model), config)
    with pytest.raises(EngineFailed, match="/nowhere/python"):
        engines.sampler("solver") if kind == "sampler" else engines.scorer()
    other = engines.scorer() if kind == "sampler" else engines.sampler("solver")
    assert other.version in ("proxy@0", "solver@0")
    engines.close()
