"""What assembly refuses before anything of a run is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import normalizers

from flows.assemble import assemble, reader
from pipeline.config import ModelConfig, RunConfig, TagsConfig
from pipeline.policy import BadModel
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
