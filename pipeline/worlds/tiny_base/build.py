"""Make the tiny base from a seed: `python -m pipeline.worlds.tiny_base.build [--out FOLDER]`.

A Qwen3-shaped model of about a million parameters, trained for some minutes on a CPU on the
texts of `pipeline.worlds.sloppy`. The same machine class and thread count give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pipeline.worlds import sloppy

TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<task>", "</task>")
# a numbered move, a word, a number below 100, any other sign, each with its space before it
PIECES = r" ?\([0-9]\)| ?[A-Za-z]+| ?[0-9]{1,2}(?![0-9])|[0-9]| ?[^\sA-Za-z0-9]|\s"
PAD, END = "<|pad|>", "<|end|>"
CONTEXT = 512


@dataclass(frozen=True, slots=True)
class Plan:
    """How the base is trained."""

    seed: int = 7
    steps: int = 1600
    rows: int = 96
    matrix_rate: float = 0.02  # Muon
    other_rate: float = 4e-3  # AdamW
    threads: int = 1


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Every word of the world one token, every other text its bytes, every tag whole."""
    rng = random.Random("tokenizer")
    words: set[str] = set()
    splitter = re.compile(PIECES)
    for _ in range(20_000):
        prompt, completion = sloppy.document(rng, sloppy.Recipe())
        text = re.sub(r"</?(think|answer|task)>", " ", prompt + completion)
        words.update(piece.strip() for piece in splitter.findall(text))
    words.update(str(n) for n in range(100))
    words.discard("")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spaced = sorted(set(words) | {"Ġ" + w for w in words} - set(alphabet))
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*alphabet, *spaced]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    pattern = Regex(PIECES)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(PAD, special=True), AddedToken(END, special=True)])
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(vocabulary: int, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    # in rows this short, plain products are faster on a CPU than fused attention's backward pass
    config._attn_implementation = "eager"
    return Qwen3ForCausalLM(config)


def batches(
    rng: random.Random, tokenizer: PreTrainedTokenizerFast, plan: Plan
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows of like length, right-padded: ids, and 1 where the completion is, which carries loss."""
    recipe = sloppy.Recipe()
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    while True:
        pairs = [sloppy.document(rng, recipe) for _ in range(plan.rows * 16)]
        read = tokenizer([prompt for prompt, _ in pairs], add_special_tokens=False)["input_ids"]
        wrote = tokenizer([text for _, text in pairs], add_special_tokens=False)["input_ids"]
        rows = [(p, [*c, end]) for p, c in zip(read, wrote, strict=True)]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        cuts = [rows[i : i + plan.rows] for i in range(0, len(rows), plan.rows)]
        rng.shuffle(cuts)
        for cut in cuts:
            # few shapes, so that kernels are made once
            longest = -(-max(len(p) + len(c) for p, c in cut) // 16) * 16
            gaps = [longest - len(p) - len(c) for p, c in cut]
            ids = [[*p, *c, *[pad] * gap] for (p, c), gap in zip(cut, gaps, strict=True)]
            loss = [
                [0] * len(p) + [1] * len(c) + [0] * g for (p, c), g in zip(cut, gaps, strict=True)
            ]
            yield torch.tensor(ids), torch.tensor(loss)


def train(plan: Plan) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast, float]:
    """The trained model, its tokenizer, and the loss it ended with (nats per token)."""
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), tokenizer)
    optimizers = _optimizers(model, plan)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda n: _pace(n, plan)) for o in optimizers]
    source = batches(random.Random(plan.seed), tokenizer, plan)
    started, mean = time.monotonic(), 0.0
    for step in range(plan.steps):
        loss = _loss(model, *next(source))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
        model.zero_grad(set_to_none=True)
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 99:
            spent = time.monotonic() - started
            sys.stderr.write(f"step {step + 1}/{plan.steps}  loss {mean:.4f}  {spent:.0f} s\n")
    return model, tokenizer, mean


def _loss(model: Qwen3ForCausalLM, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the tokens of completions, in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        # right padding under a causal mask needs no attention mask: no real token sees padding
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[:, :-1])
    targets = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def _optimizers(model: Qwen3ForCausalLM, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the layers, AdamW for embeddings and norms."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.dim() == 2 and "embed" not in name]
    others = [p for name, p in named if p.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=plan.matrix_rate, weight_decay=0.01),
        torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _pace(step: int, plan: Plan) -> float:
    """Warm-up over 50 steps, then linear decay to a fiftieth."""
    return min(1.0, (step + 1) / 50) * (1.0 - 0.98 * step / plan.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=Plan().steps)
    options = parser.parse_args()
    plan = Plan(steps=options.steps)
    model, tokenizer, loss = train(plan)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.nn.Module.to(model, torch.bfloat16)  # transformers wraps its own without annotations
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    prompts = {"attempt": sloppy.ATTEMPT_PROMPT, "proposal": sloppy.PROPOSAL_PROMPT}
    made = {
        "style": "plain",
        "plan": asdict(plan),
        "recipe": asdict(sloppy.Recipe()),
        "final_loss": round(loss, 4),
        "prompts": prompts,
    }
    (options.out / "coclimb.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
