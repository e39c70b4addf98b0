"""Tiny random models and a byte tokenizer, built in memory: for tests of shapes, not of skill."""

from __future__ import annotations

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

PAD, END = "<|pad|>", "<|end|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<task>", "</task>")


def tiny_model(
    seed: int = 0, vocab: int = 64, layers: int = 2, hidden: int = 32
) -> Qwen3ForCausalLM:
    """A random Qwen3 in float32 and eval mode; equal arguments give equal weights.

    Heads are 16 wide where hidden is 32 and 32 wide from 128 on, two queries per key. Id 0 is the
    pad and 1 the end, as in `tiny_tokenizer`. The caller's random state is left alone.
    """
    config = Qwen3Config(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=max(hidden // 4, 16),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.3 if hidden < 128 else 0.1,  # else every next token is equally likely
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config).eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Every byte a token, every tag whole; id 0 pads, 1 ends. 264 ids: give the model as many."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: i for i, piece in enumerate([PAD, END, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(PAD, special=True), AddedToken(END, special=True)])
    tokenizer.add_tokens([AddedToken(tag, normalized=False, special=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


# how Qwen's tokenizers part a text before they merge (its tokenizer.json)
PARTS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEXTS = (
    "<think>\nso\n</think>\n\n<answer>\n4\n</answer>\n",
    "<task>\nWhat is it?\n\nAnswer it?\n</task>\n\n<answer>\n4\n</answer>\n",
    "Question: How many has she?\n\nAnswer the question and return in the following format:\n\n",
    "Here is a task:\n\nHow many has she?\n\nWrite one new task of the same kind",
)


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE as Qwen's: no tag is a token, and a sign takes the line break behind it."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PARTS), behavior="isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 8, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
    )
