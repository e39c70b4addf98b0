"""The served engine against a program that speaks its messages without vLLM."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.engine.process import last_words
from pipeline.engine.served import EngineFailed, NotServed, ServedEngine, Serving
from pipeline.models.policy import merged_state, wrap_lora
from pipeline.ports import SampleRequest, ScoreRequest
from tests.tiny import tiny_model

# its tokens count up from their seed, and a log-probability tells the prompt's length or the token
FAKE = """
import hashlib, json, os, subprocess, sys, time
tricks, held = set(TRICKS), {}

def take(folder):
    data = open(folder + "/model.safetensors", "rb").read()
    size = int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:8 + size]).items():
        first, last = entry["data_offsets"]
        sha = hashlib.sha256(data[8 + size + first:8 + size + last]).hexdigest()
        if "proj" not in name or not tricks & {"fused", "packed"}:
            held[name] = sha
        elif "packed" in tricks:
            held["packed " + name] = hashlib.sha256().hexdigest()
        elif not ("stuck" in tricks and "fused " + name in held):
            held["fused " + name] = "fused " + sha
        held["its dtype"] = entry["dtype"]
    if "tell" in tricks:
        held["its folder"] = folder

def sample(ask):
    if "fall" in tricks:
        raise RuntimeError("the cache is full")
    if "die" in tricks:
        os.kill(os.getpid(), 9)
    if "sleep" in tricks:
        time.sleep(600)
    if "chatter" in tricks:
        sys.stdout.write("INFO loading")
    return {"rows": [
        {"tokens": [seed % 50 + place for place in range(ask["max_tokens"])],
         "logprobs": [-1 / (3 + len(prompt))] * ask["max_tokens"],
         "stop": "length"}
        for prompt, seeds in zip(ask["prompts"], ask["seeds"]) for seed in seeds
    ][:1 if "few" in tricks else None]}

def answer(ask):
    if ask["do"] == "sample":
        return sample(ask)
    if ask["do"] == "score":
        scale = float("nan") if "nan" in tricks else 1 / 64
        return {"rows": [[-token * scale for token in row[1:]] for row in ask["rows"]]}
    if ask["do"] == "load" and not ("keep" in tricks and held):
        take(ask["folder"])
    stays = ask["do"] == "load" and "stay" in tricks
    return {"version": "solver@0" if stays else ask["version"], "weights": [held]}

if "worker" in tricks:
    subprocess.Popen(["sleep", "600"])
if "slow" in tricks:
    time.sleep(600)
for line in sys.stdin:
    ask = json.loads(line)
    sys.stdout.write(json.dumps({**answer(ask), "number": ask["number"]}) + "\\n")
    sys.stdout.flush()
"""


class Engines:
    """Served engines over a fake that does some things amiss; closed with their test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made = folder, list[ServedEngine]()

    def __call__(self, *tricks: str, dtype: torch.dtype = torch.float32) -> ServedEngine:
        program = self.folder / "fake.py"
        program.write_text(FAKE.replace("TRICKS", repr(tricks)))
        serving = Serving(
            python="",
            folder=self.folder,
            device="cpu",
            dtype=dtype,
            context=40,
            memory=0.4,
            start_seconds=0.5 if "slow" in tricks else 60.0,
            answer_seconds=0.5 if "sleep" in tricks else 60.0,
            program=program,
        )
        self.made.append(ServedEngine(serving, eos_ids=frozenset({1}), version="solver@0"))
        return self.made[-1]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Engines]:
    engines = Engines(tmp_path)
    yield engines
    for engine in engines.made:
        engine.close()
        engine.log.unlink(missing_ok=True)


def left(group: int) -> list[str]:
    """Processes of a group that are not yet gone."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            told = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        state, _, own = told.rpartition(")")[2].split()[:3]
        if int(own) == group and state != "Z":
            found.append(pid)
    return found


ASK = [SampleRequest((5, 6), (2**62 + 3, 4)), SampleRequest((7,), ()), SampleRequest((8,), (9,))]
STATE = merged_state(tiny_model())


def moved(by: float) -> dict[str, torch.Tensor]:
    return {name: weight + by for name, weight in STATE.items()}


def test_completions_come_in_the_order_of_requests_and_seeds(served: Engines) -> None:
    first, none, last = served().sample(ASK, max_tokens=3, temperature=1.0)
    start = (2**62 + 3) % 50
    assert [sample.tokens for sample in first] == [(start, start + 1, start + 2), (4, 5, 6)]
    assert none == ()
    assert [sample.tokens for sample in last] == [(9, 10, 11)]
    assert {sample.stop for sample in first + last} == {"length"}


def test_log_probabilities_arrive_to_the_last_bit(served: Engines) -> None:
    first, _, last = served().sample(ASK, max_tokens=1, temperature=1.0)
    assert first[0].logprobs == (-1 / 5,)
    assert last[0].logprobs == (-1 / 4,)


def test_scores_are_those_of_targets_behind_prompt_and_context(served: Engines) -> None:
    engine = served()
    request = ScoreRequest((5,), ((), (6, 7)), (((8,), (9, 10)), ((11,),)))
    empty = ScoreRequest((5,), ((6,),), ((),))
    scored = (((-8 / 64,), (-9 / 64, -10 / 64)), ((-11 / 64,),))
    assert engine.score([request, empty]) == [scored, ((),)]
    assert engine.score([empty]) == [((),)]


@pytest.mark.parametrize(
    ("prompt", "temperature"), [((), 1.0), ((5,) * 38, 1.0), ((5,), 0.001), ((5,), 2.5)]
)
def test_what_cannot_be_sampled_is_refused_before_it_is_asked(
    served: Engines, prompt: tuple[int, ...], temperature: float
) -> None:
    engine = served()
    with pytest.raises(ValueError, match=r"prompt|temperature"):
        engine.sample([SampleRequest(prompt, (1,))], max_tokens=3, temperature=temperature)
    assert len(engine.sample(ASK, max_tokens=1, temperature=0.0)) == 3  # it is none the worse


def test_a_row_is_scored_up_to_the_context_and_not_beyond(served: Engines) -> None:
    engine = served()
    whole = ScoreRequest((5,) * 30, ((),), (((6,) * 10,),))
    assert len(engine.score([whole])[0][0][0]) == 10
    with pytest.raises(ValueError, match=r"41 tokens.*engine\.context"):
        engine.score([ScoreRequest((5,) * 31, ((),), (((6,) * 10,),))])
    with pytest.raises(ValueError, match="at least one token"):
        engine.score([ScoreRequest((), ((),), (((6,),),))])


def test_whole_distributions_are_refused_with_what_does_tell_them(served: Engines) -> None:
    with pytest.raises(NotServed, match=r"verifier\.certainty=offline"):
        served().confide([])


def test_weights_go_over_and_what_is_held_is_read_back(served: Engines) -> None:
    engine = served()
    engine.load(STATE, "solver@1")
    assert engine.version == "solver@1"
    assert engine.held is not None
    before = engine.held
    engine.load(moved(1.0), "solver@2")
    assert engine.held.version == "solver@2"
    assert engine.held.weights != before.weights
    engine.load(STATE, "solver@3")
    assert engine.held.weights == before.weights


def test_weights_go_over_in_the_engines_own_format(served: Engines) -> None:
    engine = served(dtype=torch.bfloat16)
    engine.load(STATE, "solver@1")
    assert engine.held is not None
    assert engine.held.weights[0]["its dtype"] == "BF16"


def test_the_file_of_weights_is_gone_once_they_are_held(served: Engines) -> None:
    engine = served("tell")
    engine.load(STATE, "solver@1")
    assert engine.held is not None
    folder = Path(engine.held.weights[0]["its folder"])
    assert not folder.exists()
    assert folder.parent.exists()
    engine.close()
    assert not folder.parent.exists()


def test_another_version_than_was_asked_for_is_refused(served: Engines) -> None:
    engine = served("stay")
    with pytest.raises(EngineFailed, match=r"'solver@0', expected 'solver@1'"):
        engine.load(STATE, "solver@1")


def test_weights_that_were_not_taken_are_refused(served: Engines) -> None:
    engine = served("keep")
    engine.load(STATE, "solver@1")
    with pytest.raises(EngineFailed, match=r"does not hold the weights 'solver@2'.* differs"):
        engine.load(moved(1.0), "solver@2")


def adapted() -> torch.nn.Module:
    """The model of `STATE` under adapters that have moved."""
    wrapped = wrap_lora(tiny_model(), 2, 4.0)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    return wrapped


def test_a_load_that_fused_weights_ignore_is_refused_though_all_others_are_as_given(
    served: Engines,
) -> None:
    engine = served("fused", "stuck")
    engine.load(STATE, "solver@1")
    engine.load(STATE, "solver@2")  # the same again changes nothing, and may
    with pytest.raises(
        EngineFailed, match=r"does not hold the weights 'solver@3'.*_proj.* differs"
    ):
        engine.load(merged_state(adapted()), "solver@3")


@pytest.mark.parametrize("kept", ["fused", "packed"])
def test_weights_that_a_worker_fuses_or_repacks_are_taken(served: Engines, kept: str) -> None:
    engine = served(kept)
    for step, state in enumerate((STATE, merged_state(adapted()), STATE), 1):
        engine.load(state, f"solver@{step}")
    assert engine.version == "solver@3"


def test_weights_go_over_with_their_adapters_merged(served: Engines) -> None:
    engine = served()
    engine.load(STATE, "solver@1")
    assert engine.held is not None
    before = engine.held.weights[0]
    wrapped = adapted()
    engine.load(merged_state(wrapped), "solver@2")
    after = engine.held.weights[0]
    changed = {name for name in STATE if before[name] != after[name]}
    assert changed == {name for name in STATE if "proj" in name}
    with pytest.raises(ValueError, match="merge it"):
        engine.load(dict(wrapped.named_parameters()), "solver@3")


def test_a_program_that_does_not_start_in_time_is_ended(served: Engines) -> None:
    engine = served("slow", "worker")
    with pytest.raises(EngineFailed, match=r"in time[\s\S]*engine\.start_seconds"):
        engine.sample(ASK, max_tokens=1, temperature=1.0)
    assert left(engine.process) == []


def test_a_call_that_takes_too_long_is_ended(served: Engines) -> None:
    engine = served("sleep", "worker")
    with pytest.raises(EngineFailed, match=r"in time[\s\S]*engine\.answer_seconds"):
        engine.sample(ASK, max_tokens=1, temperature=1.0)
    assert left(engine.process) == []


def test_an_errors_cause_and_what_follows_it_are_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == []
    log.write_text("INFO a\n\nINFO b\n")
    assert last_words(log) == ["INFO a", "INFO b"]
    log.write_text("INFO a\nWorker ValueError: no room\ntrace\nRuntimeError: see above\n  in it\n")
    assert last_words(log) == ["Worker ValueError: no room", "RuntimeError: see above", "in it"]
    log.write_text("".join(f"{n}Error: {n}\n" for n in range(9)) + "x" * 999)
    assert last_words(log) == ["5Error: 5", "6Error: 6", "7Error: 7", "8Error: 8", "x" * 300]


def test_what_the_program_fell_over_is_told_with_its_log(served: Engines) -> None:
    engine = served("fall")
    with pytest.raises(EngineFailed, match=r"code 1[\s\S]*RuntimeError: the cache is full") as told:
        engine.sample(ASK, max_tokens=1, temperature=1.0)
    log = Path(str(told.value).splitlines()[-1].split()[1])
    assert "Traceback" in log.read_text()
    assert len(str(told.value).splitlines()) <= 8  # as many as a person is shown


def test_a_program_that_is_killed_in_a_call_is_told_as_killed(served: Engines) -> None:
    engine = served("die", "worker")
    with pytest.raises(EngineFailed, match="ended by signal 9"):
        engine.sample(ASK, max_tokens=1, temperature=1.0)
    assert left(engine.process) == []


def test_a_program_that_dies_between_calls_is_told_at_the_next(served: Engines) -> None:
    engine = served()
    engine.sample(ASK, max_tokens=1, temperature=1.0)
    os.kill(engine.process, signal.SIGKILL)
    with pytest.raises(EngineFailed, match="ended by signal 9"):
        engine.sample(ASK, max_tokens=1, temperature=1.0)


def test_an_engine_that_failed_fails_again_with_the_same_words(served: Engines) -> None:
    engine = served("die")
    with pytest.raises(EngineFailed) as first:
        engine.sample(ASK, max_tokens=1, temperature=1.0)
    with pytest.raises(EngineFailed) as second:
        engine.score([ScoreRequest((5,), ((),), (((6,),),))])
    assert str(first.value) == str(second.value)


@pytest.mark.parametrize(
    ("trick", "found"), [("chatter", "no JSON"), ("few", "1 rows, expected 3")]
)
def test_an_answer_in_another_form_is_refused(served: Engines, trick: str, found: str) -> None:
    with pytest.raises(EngineFailed, match=found):
        served(trick).sample(ASK, max_tokens=1, temperature=1.0)


def test_a_log_probability_that_is_no_number_is_refused(served: Engines) -> None:
    with pytest.raises(EngineFailed, match="log-probabilities that are none"):
        served("nan").score([ScoreRequest((5,), ((),), (((6,),),))])


def test_an_interpreter_that_is_not_there_is_told_with_the_setting(tmp_path: Path) -> None:
    serving = Serving("/nowhere/python", tmp_path, "cpu", torch.float32, 40, 0.4, 1.0, 1.0)
    with pytest.raises(EngineFailed, match=r"/nowhere/python[\s\S]*engine\.python"):
        ServedEngine(serving, eos_ids=frozenset({1}), version="solver@0")


def test_closing_leaves_no_process_and_no_log(served: Engines) -> None:
    engine = served("worker")
    engine.sample(ASK, max_tokens=1, temperature=1.0)
    assert len(left(engine.process)) == 2  # the program and its worker
    log = engine.log
    engine.close()
    engine.close()
    assert left(engine.process) == []
    assert not log.exists()
    with pytest.raises(EngineFailed, match="closed"):
        engine.sample(ASK, max_tokens=1, temperature=1.0)
