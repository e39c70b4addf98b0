"""Tokens per second of the local engine beside transformers' `generate`, in one run.

    python -m tests.bench_engine [--threads 2] [--repeat 3] [--end-share 0.02] [--model FOLDER]
        [--batching]

32 prompts of about 45 tokens, 8 completions each of at most 64 tokens, then 256 contexts scored.
All sides sample the same prompts at temperature 1; the best of the repeats counts, alternating.
With --batching the same completions are sampled by transformers' continuous batching too.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from pipeline.engine.batching import BatchingEngine
from pipeline.engine.local import LocalEngine
from pipeline.models.policy import borrowed, merged_state, replica
from pipeline.ports import Engine, SampleRequest, ScoreRequest
from tests.tiny import tiny_model

PROMPTS, GROUP, BUDGET, VOCAB = 32, 8, 64, 1024


@dataclass(frozen=True)
class Work:
    """Prompts, and per prompt its contexts and reference."""

    prompts: list[tuple[int, ...]]
    contexts: list[tuple[tuple[int, ...], ...]]
    references: list[tuple[int, ...]]


def make_work(rng: random.Random, vocab: int) -> Work:
    def text(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(2, vocab) for _ in range(rng.randint(low, high)))

    return Work(
        [text(38, 52) for _ in range(PROMPTS)],
        [tuple(text(20, 60) for _ in range(GROUP)) for _ in range(PROMPTS)],
        [text(3, 8) for _ in range(PROMPTS)],
    )


def ours(engine: Engine, work: Work) -> int:
    requests = [
        SampleRequest(prompt, tuple(range(i * GROUP, (i + 1) * GROUP)))
        for i, prompt in enumerate(work.prompts)
    ]
    groups = engine.sample(requests, max_tokens=BUDGET, temperature=1.0)
    return sum(len(sample.tokens) for group in groups for sample in group)


def theirs(model: PreTrainedModel, work: Work, ends: list[int]) -> int:
    width = max(map(len, work.prompts))
    rows = [(0,) * (width - len(p)) + p for p in work.prompts]
    mask = [(0,) * (width - len(p)) + (1,) * len(p) for p in work.prompts]
    device = model.device
    output = model.generate(
        input_ids=torch.tensor(rows, device=device),
        attention_mask=torch.tensor(mask, device=device),
        do_sample=True,
        top_k=0,
        num_return_sequences=GROUP,
        max_new_tokens=BUDGET,
        pad_token_id=0,
        eos_token_id=ends,
    )
    made = output[:, width:]
    return int((made != 0).sum())


def score(engine: Engine, work: Work) -> int:
    requests = [
        ScoreRequest(prompt, contexts, tuple((reference,) for _ in contexts))
        for prompt, contexts, reference in zip(
            work.prompts, work.contexts, work.references, strict=True
        )
    ]
    engine.score(requests)
    return sum(
        len(prompt) + sum(map(len, contexts)) + len(reference) * len(contexts)
        for prompt, contexts, reference in zip(
            work.prompts, work.contexts, work.references, strict=True
        )
    )


def best(repeat: int, *sides: Callable[[], int]) -> list[tuple[float, int]]:
    """Per side: seconds and tokens of its fastest turn; the sides take turns."""
    turns: list[list[tuple[float, int]]] = [[] for _ in sides]
    for _ in range(repeat + 1):
        for side, own in zip(sides, turns, strict=True):
            start = time.perf_counter()
            tokens = side()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            own.append((time.perf_counter() - start, tokens))
    return [max(own[1:], key=lambda turn: turn[1] / turn[0]) for own in turns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--end-share", type=float, default=0.02, help="share of ids that end")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="", help="a model folder instead of the random one")
    parser.add_argument("--batching", action="store_true", help="continuous batching as well")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.model:
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        base = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    else:
        base = tiny_model(vocab=VOCAB, layers=4, hidden=128)
    vocab = base.config.vocab_size
    work = make_work(random.Random(1), vocab)
    ends = sorted(random.Random(2).sample(range(1, vocab), max(1, int(vocab * args.end_share))))
    for dtype in (torch.bfloat16, torch.float32):
        model = replica(base, dtype, args.device)
        twin = borrowed(model, merged_state(model), dtype, args.device)
        engine = LocalEngine(model, eos_ids=frozenset(ends), pad_id=0, version="bench@0")
        sides = [
            lambda e=engine: ours(e, work),
            lambda m=model: theirs(m, work, ends),
            lambda e=engine: score(e, work),
        ]
        if args.batching:
            batching = BatchingEngine(engine, twin, frozenset(ends))
            sides.append(lambda e=batching: ours(e, work))
        (mine, made), (hf, made_hf), (scoring, read), *more = best(args.repeat, *sides)
        print(
            f"{str(dtype)[6:]:9} sample {made / mine:8.0f} tok/s ({mine:.3f} s, {made} tokens)   "
            f"generate {made_hf / hf:8.0f} tok/s ({hf:.3f} s, {made_hf} tokens)   "
            f"ratio {made / mine / (made_hf / hf):.2f}   "
            f"score {read / scoring:8.0f} tok/s ({scoring:.3f} s)"
        )
        for seconds, tokens in more:
            print(
                f"{'':9} batching {tokens / seconds:6.0f} tok/s ({seconds:.3f} s, {tokens} tokens)"
                f"   ratio {tokens / seconds / (made / mine):.2f} of the local engine"
            )


if __name__ == "__main__":
    main()
