"""The program of a served engine's own process: vLLM, asked over a pipe.

Run by its path with the interpreter that has vLLM, so it imports nothing of this project. One line
of JSON comes in, one goes out, each with the number of the message; whatever vLLM prints goes to
standard error. It ends when its standard input does, however the asker went, and takes vLLM's own
processes along.

    {"do": "start", ...} -> {"version": .., "weights": [..]}
    {"do": "sample", ...} -> {"rows": [{"tokens": [..], "logprobs": [..], "stop": ".."}, ..]}
    {"do": "score", ...} -> {"rows": [[logprob of the second token, of the third, ..], ..]}
    {"do": "load", ...} -> {"version": .., "weights": [..]}

"weights" are, per worker, SHA-256 digests of the parameters as it holds them. Whatever fails ends
the program, with its traceback on standard error.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Protocol, TypedDict, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn
    from vllm import LLM, RequestOutput, SamplingParams

    class ModelRunner(Protocol):
        """What a worker keeps its model in."""

        def get_model(self) -> nn.Module: ...


MAX_BATCHED = 2048  # prompt tokens whose logits over the whole vocabulary are made at once
QUIET = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would hold our pipes open
    # a scored row as long as the model reads still has to "write" one token, which is never read
    "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",
}
# without a GPU: 1 GiB of keys and values, and no compiler for a kernel that only counts ranks
ON_CPU = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1"}

STOPS = {"stop": "end", "length": "length"}  # how vLLM calls the two ways that a completion ends


class Start(TypedDict):
    """What vLLM is started with."""

    folder: str
    device: str
    dtype: str
    context: int
    memory: float
    seed: int
    seconds: float  # longest start
    version: str
    scratch: str  # a folder of the asker's that goes when nobody asks any more


class SampleAsk(TypedDict):
    """Each prompt is continued once per seed; a temperature of 0 is greedy."""

    prompts: list[list[int]]
    seeds: list[list[int]]
    max_tokens: int
    temperature: float
    ends: list[int]


class ScoreAsk(TypedDict):
    """Rows of at least two tokens."""

    rows: list[list[int]]


class Load(TypedDict):
    """A folder that holds the weights as safetensors."""

    folder: str
    version: str


class Heads:
    """What vLLM's workers can do beside what they can (`worker_extension_cls`)."""

    model_runner: ModelRunner  # the worker's own

    def repack_heads(self) -> None:
        """Have output heads follow weights that were reloaded.

        On a CPU a head computes from a packed copy, and one tied to the embedding is not reloaded
        under a name of its own: it would go on with the old weights (seen in 0.32).
        """
        from vllm.model_executor.layers import vocab_parallel_embedding as heads  # noqa: PLC0415

        for module in self.model_runner.get_model().modules():
            if isinstance(module, heads.ParallelLMHead):
                method = module.quant_method
                if isinstance(method, heads.UnquantizedEmbeddingMethod):
                    method.process_weights_after_loading(module)


class Served:
    """vLLM under one version of weights."""

    def __init__(self, ask: Start) -> None:
        gpu = ask["device"] == "cuda"
        chosen = dict(QUIET) if gpu else {**QUIET, **ON_CPU}
        chosen["VLLM_ENGINE_READY_TIMEOUT_S"] = str(math.ceil(ask["seconds"]))
        for name, value in chosen.items():
            os.environ.setdefault(name, value)
        import vllm  # noqa: PLC0415 - it reads the environment that was just set
        from vllm.platforms import current_platform  # noqa: PLC0415 - and so does this

        # a CPU's settings on a GPU, or the other way round, would run and draw other rollouts
        if current_platform.is_cpu() == gpu:
            raise RuntimeError(
                f"this vLLM {vllm.__version__} runs on {current_platform.device_type}, the run on "
                f"{ask['device']} (model.device); have engine.python name a vLLM of that device"
            )
        self.make_params = vllm.SamplingParams
        self.llm: LLM = vllm.LLM(
            ask["folder"],
            skip_tokenizer_init=True,
            generation_config="vllm",
            dtype=ask["dtype"],
            seed=ask["seed"],
            max_model_len=ask["context"] + 1,
            # a prompt cut in two has its random stream wound back, which a CPU's cannot be (0.32)
            enable_chunked_prefill=gpu,
            max_num_batched_tokens=MAX_BATCHED if gpu else max(MAX_BATCHED, ask["context"] + 1),
            gpu_memory_utilization=ask["memory"],
            enforce_eager=not gpu,
            logprobs_mode="processed_logprobs",
            # workers are spawned, so this file is their main module under this name
            worker_extension_cls="__mp_main__.Heads",
        )
        self.name(ask["version"])

    def name(self, version: str) -> None:
        """Have vLLM mark what it writes from now on with this version."""
        self.llm.llm_engine.set_weight_version(version)
        self.version: str = self.llm.llm_engine.get_weight_version()

    def held(self) -> dict[str, object]:
        """The version that vLLM names, and the digests of what its workers hold."""
        digests = self.llm.collective_rpc("compute_weight_checksums")
        # a worker puts its place before each name: "dp0:pp0:pcp0:tp0:"
        bare = [{name.rpartition(":")[2]: sum for name, sum in one.items()} for one in digests]
        return {"version": self.version, "weights": bare}

    def sample(self, ask: SampleAsk) -> dict[str, object]:
        asked = [
            (prompt, self.sampling(ask, seed))
            for prompt, seeds in zip(ask["prompts"], ask["seeds"], strict=True)
            for seed in seeds
        ]
        return {"rows": [self.written(output) for output in self.generate(asked)]}

    def sampling(self, ask: SampleAsk, seed: int) -> SamplingParams:
        return self.make_params(
            temperature=ask["temperature"],
            seed=seed,
            max_tokens=ask["max_tokens"],
            top_k=0,
            top_p=1.0,
            logprobs=0,
            stop_token_ids=ask["ends"],
            flat_logprobs=True,
            detokenize=False,
        )

    def written(self, output: RequestOutput) -> dict[str, object]:
        made = output.outputs[0]
        spans = {span.version for span in made.weight_versions or ()}
        if spans != {self.version}:
            raise RuntimeError(f"written under weights {sorted(spans)}, expected {self.version}")
        tokens = list(made.token_ids)
        if made.logprobs is None or list(made.logprobs.token_ids) != tokens:
            raise RuntimeError("vLLM's log-probabilities are not those of the tokens it wrote")
        if made.finish_reason not in STOPS:  # "abort", "error": cut short by no rule of ours
            raise RuntimeError(f"vLLM ended a completion by {made.finish_reason!r}")
        stop = STOPS[made.finish_reason]
        return {"tokens": tokens, "logprobs": list(made.logprobs.logprobs), "stop": stop}

    def score(self, ask: ScoreAsk) -> dict[str, object]:
        params = self.make_params(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            flat_logprobs=True,
            detokenize=False,
        )
        outputs = self.generate([(row, params) for row in ask["rows"]])
        pairs = zip(ask["rows"], outputs, strict=True)
        return {"rows": [read(row, output) for row, output in pairs]}

    def generate(self, asked: list[tuple[list[int], SamplingParams]]) -> list[RequestOutput]:
        prompts = [{"prompt_token_ids": tokens} for tokens, _ in asked]
        params = [params for _, params in asked]
        outputs: list[RequestOutput] = self.llm.generate(prompts, params, use_tqdm=False)
        return outputs

    def load(self, ask: Load) -> dict[str, object]:
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": ask["folder"]})
        self.llm.collective_rpc("repack_heads")
        # keys and values of the old weights would answer for prompts that were read before
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not reset its prefix cache")
        self.name(ask["version"])
        return self.held()


def read(row: list[int], output: RequestOutput) -> list[float]:
    """Log-probability of each token of a row but the first."""
    found = output.prompt_logprobs
    if found is None or list(found.token_ids) != row[1:]:
        raise RuntimeError("vLLM's log-probabilities are not those of the tokens that were given")
    return list(found.logprobs)


class Asks(threading.Thread):
    """Messages as they come. Once nobody asks any more, whatever goes on is ended with its workers.

    Nothing is there to be saved, and vLLM's own way to end takes up to ten seconds.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.waiting: queue.SimpleQueue[dict[str, object]] = queue.SimpleQueue()
        self.scratch = ""

    def run(self) -> None:
        try:
            for line in sys.stdin.buffer:
                self.waiting.put(json.loads(line))
        finally:  # the last line is cut where the asker was killed while it wrote
            if self.scratch:
                shutil.rmtree(self.scratch, ignore_errors=True)
            end(0)


def end(code: int) -> NoReturn:
    """End this process and all others of its group, now.

    All but the one that removes shared memory of those that are gone, and then ends by itself.
    """
    for pid in others():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    os._exit(code)


def others() -> Iterator[int]:
    """The other processes of this one's group; on Linux, where vLLM runs."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                group = int(file.read().rpartition(")")[2].split()[2])
            with open(f"/proc/{name}/cmdline", "rb") as file:
                tracks = b"resource_tracker" in file.read()
        except OSError:  # it ended meanwhile
            continue
        if group == os.getpgrp() and int(name) != os.getpid() and not tracks:
            yield int(name)


def fail(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell what failed, then end with all that was started."""
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    end(1)


def answers(asks: Asks) -> Iterator[dict[str, object]]:
    """The answer to each message."""
    start = asks.waiting.get()
    asks.scratch = str(start["scratch"])
    served = Served(cast(Start, start))
    yield {**served.held(), "number": start["number"]}
    while True:
        ask = asks.waiting.get()
        yield {**answer(served, ask), "number": ask["number"]}


def answer(served: Served, ask: dict[str, object]) -> dict[str, object]:
    """What one message asks for."""
    if ask["do"] == "sample":
        return served.sample(cast(SampleAsk, ask))
    if ask["do"] == "score":
        return served.score(cast(ScoreAsk, ask))
    return served.load(cast(Load, ask))


def main() -> None:
    """Answer until nobody asks."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.excepthook = fail
    asks = Asks()
    asks.start()
    for told in answers(asks):
        out.write(json.dumps(told) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
