"""Memory worked out by hand, and a page whose settings and commands exist."""

from __future__ import annotations

import re
import shlex

import pytest
from typer.main import get_command

from flows.cli import app
from flows.deployment.explain import SHAPES, nearest, page, settings
from flows.deployment.memory import as_read, checkpoint, engines, host, served, total, training
from flows.errors import Refusal
from flows.settings import build
from pipeline.config import RunConfig

SMALL, MIDDLE, LARGE = SHAPES


def test_parameters_are_those_that_the_published_files_hold() -> None:
    assert SMALL.parameters == 1_543_714_304
    assert MIDDLE.parameters == 7_615_616_512
    assert LARGE.parameters == 32_763_876_352


def test_keys_and_values_of_a_token_by_hand() -> None:
    # two (keys, values) * layers * key-value heads * 128 * two bytes
    assert SMALL.cache == 2 * 28 * 2 * 128 * 2 == 28_672
    assert MIDDLE.cache == 2 * 28 * 4 * 128 * 2 == 57_344
    assert LARGE.cache == 2 * 64 * 8 * 128 * 2 == 262_144


def test_training_all_weights_takes_twenty_bytes_a_parameter() -> None:
    # float32 weights 4, gradients 4, moments 8; bfloat16 copy 2 and its gradients 2
    assert total(training(MIDDLE, "alone")) == 20 * MIDDLE.parameters
    assert total(training(MIDDLE, "alone", eight=True)) == 14 * MIDDLE.parameters


def test_fsdp2_takes_sixteen_bytes_a_parameter_shared_out_and_one_layer_twice() -> None:
    # no copy computes: the head, 152,064 * 3,584, is the largest that is gathered in bfloat16
    gathered = 2 * 152_064 * 3584 * 2
    for processes in (1, 8):
        share = 16 * MIDDLE.parameters / processes
        assert total(training(MIDDLE, "fsdp2", processes=processes)) == share + gathered


def test_adapters_of_seven_linear_layers_by_hand() -> None:
    # rank * (in + out): queries and output, keys and values, three of the MLP
    layer = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18_944)
    assert MIDDLE.adapters(32) == 28 * 32 * layer == 80_740_352
    lora = total(training(MIDDLE, "lora", rank=32))
    assert lora == 6 * MIDDLE.parameters + 20 * MIDDLE.adapters(32)


def test_engines_proxy_and_checkpoint_by_the_byte() -> None:
    count = MIDDLE.parameters
    assert as_read(MIDDLE).size == 4 * count
    assert total(engines(MIDDLE, tokens=1000)) == 4 * count + 1000 * 57_344
    assert total(served(MIDDLE, tokens=1000)) == 2 * count + 1000 * 57_344
    assert total(host(MIDDLE)) == 16 * count
    assert checkpoint(MIDDLE) == 16 * count
    assert checkpoint(MIDDLE, rank=32) == 4 * count + 12 * MIDDLE.adapters(32)


def test_a_size_is_worked_out_by_the_nearest_shape() -> None:
    assert [nearest(size) for size in (0.5, 1, 3, 7, 8, 14, 32, 70)] == [
        SMALL, SMALL, SMALL, MIDDLE, MIDDLE, MIDDLE, LARGE, LARGE,
    ]  # fmt: skip
    with pytest.raises(Refusal, match="billions"):
        page(0)


def test_the_verdicts_follow_from_the_sums() -> None:
    assert settings(SMALL).startswith("nothing to set")
    assert settings(MIDDLE).startswith("learner.processes=8 learner.spread=fsdp2")
    assert settings(LARGE) == "does not train on such a machine: see 3"


def test_the_page_tells_one_size_or_all() -> None:
    assert [s.name in page(7).split("What fits")[1].split("\n\n", 2)[2] for s in SHAPES] == [
        False, True, False,
    ]  # fmt: skip
    assert "152.3 GB" in page(7)
    assert all(f"{s.name}: {s.parameters / 1e9:.2f}e9" in page() for s in SHAPES)


def test_every_setting_of_the_page_exists() -> None:
    named = set(re.findall(r"\b([a-z]+\.[a-z_]+)=(\S+)", page()))
    sections = RunConfig.model_fields
    changes = [
        f"{key}={value.rstrip(',;:')}" for key, value in named if key.split(".")[0] in sections
    ]
    assert len(changes) > 8
    for change in changes:
        build({}, [change], "the page")


def test_every_command_of_the_page_is_one() -> None:
    known = get_command(app).commands  # type: ignore[attr-defined]
    text = page().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if "coclimb " in line and line.startswith("    ")]
    assert len(lines) >= 9
    for line in lines:
        words = shlex.split(line.split("coclimb ", 1)[1].split(" &")[0].split(";")[0])
        command = known[words[0]]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
