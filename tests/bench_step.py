"""One step of the learner's whole work beside one training step of TRL's GRPOTrainer, alternating.

    python -m tests.bench_step [--pairs 5] [--threads 2] [--dtype bfloat16] [--trl-bf16]

Both attempt the same N tasks G times with the same weights, lengths and temperature, ask the same
proxy for NOVER's perplexity of each reference, and take one AdamW step on GRPO's loss. Ours runs
engine, proxy, reward, credit, learner and publish; TRL generates by itself and is paid by a reward
function that scores with a plain forward pass. A ratio above 1 says how many times faster ours is.

With the tiny base in place it is used, else a random model of its shape (every completion then
runs to its last token, so that nothing is gained from lengths). The share of the matrix peak counts
2 * parameters * tokens for a forward pass and 6 for training, over the tokens that carry text, each
prompt once per group, against a bfloat16 product measured in the same run.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer

from agents.prompts import Prompts
from pipeline.advantages import credit
from pipeline.batch import Splice
from pipeline.config import RunConfig
from pipeline.engine.local import LocalEngine
from pipeline.learning.learner import PolicyLearner
from pipeline.models.policy import end_ids, load_policy
from pipeline.ports import SampleRequest, ScoreRequest
from pipeline.rewards import judge
from pipeline.types import Credited, Evidence, Group, Rollout, Task, Transcript, UpdateStats
from pipeline.worlds.rule import seed_tasks
from tests.tiny import tiny_model, tiny_tokenizer

BASE = Path(__file__).resolve().parent.parent / "pipeline" / "worlds" / "tiny_base"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """What both sides do: N tasks, G attempts each, of at most `longest` tokens."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prompts: Prompts
    tasks: list[Task]
    config: RunConfig

    def reasoning(self, completion: Tokens) -> Tokens:
        """What stands before the answer; the whole text where there is none."""
        tag = self.prompts.open_answer
        for i in range(len(completion) - len(tag) + 1):
            if completion[i : i + len(tag)] == tag:
                return completion[:i]
        return completion

    def evidence(self, logprobs: Sequence[float], completion: Tokens) -> Evidence:
        read = len(self.reasoning(completion))
        return Evidence("measured", "proxy@0", tuple(logprobs), tuple(logprobs), read)

    def credited(
        self, task: Task, rollouts: Sequence[Rollout], evidence: Sequence[Evidence]
    ) -> Credited:
        group = Group(task.id, "solver", task, tuple(rollouts), (Transcript("ok"),) * len(rollouts))
        judged = judge(group, evidence, self.config.reward)
        return credit([judged], self.config.objective)[0]


class Ours:
    """Engine, proxy and learner, wired as a run wires them."""

    def __init__(self, work: Work) -> None:
        self.work, settings = work, work.config.model
        eos, pad = end_ids(work.model, work.tokenizer), work.tokenizer.pad_token_id

        def engine(dtype: str, version: str) -> LocalEngine:
            model = copy.deepcopy(work.model).to(DTYPES[dtype])
            return LocalEngine(model, eos_ids=eos, pad_id=pad, version=version)

        self.engine = engine(settings.engine_dtype, "solver@0")
        self.proxy = engine(settings.proxy_dtype, "proxy@0")
        prompts = work.prompts
        splice = Splice(prompts.behind_answer_tag, lambda t: prompts.closed_reference(t.reference))
        models = {"solver": copy.deepcopy(work.model)}
        self.learner = PolicyLearner(models, work.config, splice, {"solver": self.engine.load})
        self.steps, self.laps = 0, dict[str, list[float]]()

    def step(self) -> tuple[UpdateStats, int]:
        """One whole step; its stats, and the tokens sampled."""
        self.steps += 1
        clock = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal clock
            now = time.perf_counter()
            self.laps.setdefault(name, []).append(now - clock)
            clock = now

        rollouts = self._sample()
        lap("sample")
        evidence = self._score(rollouts)
        lap("score")
        credited = [
            self.work.credited(task, rows, found)
            for task, rows, found in zip(self.work.tasks, rollouts, evidence, strict=True)
        ]
        stats = self.learner.step(credited, step=self.steps)["solver"]
        self.learner.publish()
        lap("learn")
        return stats, sum(sum(row.written) for rows in rollouts for row in rows)

    def _sample(self) -> list[list[Rollout]]:
        work, solver = self.work, self.work.config.solver
        requests = [
            SampleRequest(
                work.prompts.attempt(task.question),
                tuple(self.steps * 10**6 + n * 1000 + g for g in range(solver.group_size)),
            )
            for n, task in enumerate(work.tasks)
        ]
        sampled = self.engine.sample(
            requests, max_tokens=solver.max_tokens, temperature=solver.temperature
        )
        return [
            [
                Rollout(
                    id=str(seed),
                    tokens=request.prompt + sample.tokens,
                    written=(False,) * len(request.prompt) + (True,) * len(sample.tokens),
                    logprobs=(0.0,) * len(request.prompt) + sample.logprobs,
                    completion="",
                    stop=sample.stop,
                    seed=seed,
                    version=self.engine.version,
                )
                for seed, sample in zip(request.seeds, samples, strict=True)
            ]
            for request, samples in zip(requests, sampled, strict=True)
        ]

    def _score(self, rollouts: list[list[Rollout]]) -> list[list[Evidence]]:
        work, requests = self.work, []
        for task, rows in zip(work.tasks, rollouts, strict=True):
            prompt = work.prompts.attempt(task.question)
            contexts = tuple(work.reasoning(row.tokens[len(prompt) :]) for row in rows)
            target = work.prompts.answer(task.reference)
            requests.append(ScoreRequest(prompt, contexts, ((target,),) * len(rows)))
        return [
            [
                work.evidence(told[0], row.tokens[row.written.index(True) :])
                for told, row in zip(scores, rows, strict=True)
            ]
            for scores, rows in zip(self.proxy.score(requests), rollouts, strict=True)
        ]


class Paid:
    """TRL's reward function: NOVER's reward by a plain, padded forward pass of the proxy."""

    __name__ = "nover"

    def __init__(self, work: Work, chunk: int) -> None:
        self.work, self.proxy, self.chunk = work, copy.deepcopy(work.model), chunk
        self.tasks = {work.tokenizer.decode(p): t for p, t in _prompts(work)}
        self.tokens: list[int] = []

    def __call__(
        self, prompts: list[str], completion_ids: list[list[int]], **_: object
    ) -> list[float]:
        size, rewards = self.work.config.solver.group_size, list[float]()
        self.tokens.append(sum(map(len, completion_ids)))
        tasks = [self.tasks[prompt] for prompt in prompts]
        logprobs = self._score(tasks, [tuple(ids) for ids in completion_ids])
        for start in range(0, len(prompts), size):
            own = range(start, start + size)
            task, ids = tasks[start], [tuple(completion_ids[i]) for i in own]
            rows = [
                Rollout(str(i), text, (True,) * len(text), (0.0,) * len(text), "", "end", 0, "")
                for i, text in zip(own, ids, strict=True)
            ]
            found = [self.work.evidence(logprobs[i], completion_ids[i]) for i in own]
            rewards += self.work.credited(task, rows, found).judged.rewards
        return rewards

    @torch.no_grad()
    def _score(self, tasks: list[Task], texts: list[Tokens]) -> list[list[float]]:
        prompts, pad = self.work.prompts, self.work.tokenizer.pad_token_id
        rows, counts = [], []
        for task, text in zip(tasks, texts, strict=True):
            target = prompts.answer(task.reference)
            read = prompts.attempt(task.question) + self.work.reasoning(text)
            rows.append(torch.tensor(read + target))
            counts.append(len(target))
        found: list[list[float]] = []
        for start in range(0, len(rows), self.chunk):
            part = rows[start : start + self.chunk]
            ids = torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=pad)
            lengths = torch.tensor([len(row) for row in part])
            mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
            logits = self.proxy(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
            told: Tensor = torch.log_softmax(logits, -1).gather(2, ids[:, 1:, None])[..., 0]
            ends = zip(told, lengths.tolist(), counts[start : start + self.chunk], strict=True)
            found += [row[end - 1 - count : end - 1].tolist() for row, end, count in ends]
        return found


@dataclass(frozen=True)
class Spent:
    """Seconds on the wall, and of the processor: the latter hardly feels other processes."""

    wall: float
    processor: float

    @classmethod
    def now(cls) -> Spent:
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.wall - other.wall, self.processor - other.processor)


class Alternate(TrainerCallback):  # type: ignore[misc]  # transformers leaves it untyped
    """Takes one of our steps before each of TRL's, and TRL's time between begin and end."""

    def __init__(self, ours: Ours) -> None:
        self.ours = ours
        self.mine, self.theirs = list[Spent](), list[Spent]()
        self.stats: list[tuple[UpdateStats, int]] = []

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        start = Spent.now()
        self.stats.append(self.ours.step())
        self.mine.append(Spent.now() - start)
        self._begun = Spent.now()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self.theirs.append(Spent.now() - self._begun)
        mine, theirs = self.mine[-1].wall, self.theirs[-1].wall
        print(f"pair {len(self.theirs)}: ours {mine:.2f} s, TRL {theirs:.2f} s", flush=True)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    work = _work(options)
    alternate, paid = Alternate(Ours(work)), Paid(work, options.trl_rows)
    with tempfile.TemporaryDirectory() as folder:
        _trainer(work, options, paid, alternate, folder).train()
    _report(work, alternate, paid, _matrix_peak())


def _report(work: Work, alternate: Alternate, paid: Paid, peak: float) -> None:
    laps = {name: statistics.median(x[1:]) for name, x in alternate.ours.laps.items()}
    stats, sampled = alternate.stats[-1]
    read = sum(len(prompt) for prompt, _ in _prompts(work))
    parameters = sum(p.numel() for p in work.model.parameters())
    rows = len(work.tasks) * work.config.solver.group_size
    scored = read + sampled + rows * 6
    counted = {"sample": 2 * (read + sampled), "score": 2 * scored, "learn": 6 * (read + sampled)}
    print(
        f"\n{rows} rollouts, {read} prompt tokens (each once), {sampled} sampled by ours, "
        f"{statistics.median(paid.tokens):.0f} by TRL, {parameters / 1e6:.2f}M parameters, "
        f"{stats.rows} rows trained"
    )
    print(f"bfloat16 matrix peak measured here: {peak / 1e9:.0f} GFLOP/s")
    for name, seconds in laps.items():
        speed = counted[name] * parameters / seconds
        print(
            f"  {name:7s} {seconds:6.3f} s  {(read + sampled) / seconds:9.0f} tokens/s"
            f"  {100 * speed / peak:5.1f} % of peak"
        )
    for kind in ("wall", "processor"):
        mine, theirs = (
            [getattr(spent, kind) for spent in side[1:]]
            for side in (alternate.mine, alternate.theirs)
        )
        ours, trl = statistics.median(mine), statistics.median(theirs)
        ratios = [t / m for m, t in zip(mine, theirs, strict=True)]
        share = sum(counted.values()) * parameters / ours / peak
        print(
            f"{kind + ' s':12s} ours {ours:6.3f}  TRL {trl:6.3f}  "
            f"ratio {statistics.median(ratios):5.2f} (lowest {min(ratios):.2f} of {len(ratios)})"
            + (f"  ours at {100 * share:.1f} % of peak" if kind == "wall" else "")
        )


def _work(options: argparse.Namespace) -> Work:
    if (BASE / "model.safetensors").exists() and not options.random:
        model, tokenizer = load_policy(str(BASE), dtype=torch.float32, device="cpu")
    else:
        model, tokenizer = tiny_model(vocab=1024, layers=4, hidden=128), tiny_tokenizer()
    config = RunConfig.model_validate(
        {
            "model": {"train_dtype": options.dtype, "engine_dtype": options.engine_dtype},
            "solver": {"tasks": options.tasks, "max_tokens": options.longest},
            "learner": {"token_budget": options.budget, "learning_rate": 1e-5},
            "objective": {"answer_term": options.answer_term},
        }
    )
    prompts = Prompts(tokenizer, config.tags, "plain")
    tasks = seed_tasks(7, options.tasks, 3, set())
    return Work(model, tokenizer, prompts, tasks, config)


def _prompts(work: Work) -> list[tuple[Tokens, Task]]:
    return [(work.prompts.attempt(task.question), task) for task in work.tasks]


def _trainer(
    work: Work, options: argparse.Namespace, paid: Paid, alternate: Alternate, folder: str
) -> GRPOTrainer:
    solver = work.config.solver
    rows = len(work.tasks) * solver.group_size
    texts = [work.tokenizer.decode(prompt) for prompt, _ in _prompts(work)]
    return GRPOTrainer(
        model=copy.deepcopy(work.model),
        reward_funcs=paid,
        args=GRPOConfig(
            output_dir=folder,
            report_to="none",
            use_cpu=True,
            bf16=options.trl_bf16,
            per_device_train_batch_size=options.trl_rows,
            gradient_accumulation_steps=rows // options.trl_rows,
            num_generations=solver.group_size,
            max_completion_length=solver.max_tokens,
            temperature=solver.temperature,
            learning_rate=work.config.learner.learning_rate,
            max_steps=options.pairs + 1,
            gradient_checkpointing=False,
            beta=0.0,
            epsilon_high=work.config.objective.clip_high,
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"prompt": texts}),
        processing_class=work.tokenizer,
        callbacks=[alternate],
    )


def _matrix_peak() -> float:
    """FLOP/s of a large bfloat16 product, the best of several."""
    left, right = (torch.randn(2048, 2048, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(8):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return float(2 * 2048**3 / min(times))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=5, help="pairs after one to warm up")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16", help="of training")
    parser.add_argument("--engine-dtype", choices=sorted(DTYPES), default="bfloat16")
    parser.add_argument("--trl-bf16", action="store_true", help="TRL under bfloat16 autocast")
    parser.add_argument("--trl-rows", type=int, default=64, help="rows per micro-batch of TRL")
    parser.add_argument("--tasks", type=int, default=32)
    parser.add_argument("--longest", type=int, default=96)
    parser.add_argument("--budget", type=int, default=4096)
    parser.add_argument("--answer-term", type=float, default=0.0, help="TRL has no such term")
    parser.add_argument("--random", action="store_true", help="a random model in place of the base")
    return parser.parse_args()


if __name__ == "__main__":
    main()
