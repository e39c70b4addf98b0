from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast

from pipeline.config import TagsConfig
from pipeline.models.policy import (
    BadModel,
    borrowed,
    check_fragments,
    copy_weights,
    encode,
    end_ids,
    fingerprint,
    fragments,
    load_policy,
    load_reader,
    longest_row,
    merged_state,
    pick_device,
    replica,
    wrap_lora,
)
from tests.tiny import merging_tokenizer, tiny_model, tiny_tokenizer


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.tensor([[3, 4, 5, 6]])).logits
    return found


def load(folder: Path) -> nn.Module:
    return load_policy(str(folder), dtype=torch.float32, device="cpu")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound model folder."""
    place = tmp_path / "model"
    tiny_model(vocab=264).save_pretrained(place)
    tiny_tokenizer().save_pretrained(place)
    return place


def test_a_saved_model_loads_with_the_same_weights_and_its_tokenizer(folder: Path) -> None:
    model, tokenizer = load_policy(str(folder), dtype=torch.float32, device="cpu")
    assert fingerprint(merged_state(model)) == fingerprint(merged_state(tiny_model(vocab=264)))
    assert not model.training
    assert tokenizer.decode(encode(tokenizer, "<think>é</think>")) == "<think>é</think>"


def test_a_reader_has_the_tokenizer_and_the_context_of_its_model(folder: Path) -> None:
    model, whole = load_policy(str(folder), dtype=torch.float32, device="cpu")
    tokenizer, context = load_reader(str(folder), TagsConfig())
    assert context == longest_row(model)
    assert tokenizer.get_vocab() == whole.get_vocab()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_take_the_dtype_asked_for(folder: Path, dtype: torch.dtype) -> None:
    model, _ = load_policy(str(folder), dtype=dtype, device="cpu")
    assert {weight.dtype for weight in model.parameters()} == {dtype}


def test_a_model_in_shards_loads_and_misses_a_lost_one(tmp_path: Path) -> None:
    tiny_model(vocab=264).save_pretrained(tmp_path, max_shard_size="60KB")
    tiny_tokenizer().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    load(tmp_path)
    shards[0].unlink()
    with pytest.raises(BadModel, match=rf"{shards[0].name}: a shard is missing"):
        load(tmp_path)


def change_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        path = folder / "model.safetensors"
        state = load_file(path)
        change(state)
        save_file(state, path, metadata={"format": "pt"})

    return act


def change_config(**fields: object) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return act


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def other_tokenizer(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)


def leads_out(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.rename(folder.parent / "elsewhere.safetensors")
    os.symlink(folder.parent / "elsewhere.safetensors", path)


NORM = "model.norm.weight"
EMBEDDING = "model.embed_tokens.weight"
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "NaN": (
        change_weights(lambda s: s[NORM].fill_(float("nan"))),
        r"weight model.norm.weight holds NaN",
    ),
    "infinity": (
        change_weights(lambda s: s[NORM].fill_(float("inf"))),
        r"weight model.norm.weight holds NaN or infinity",
    ),
    "zeros": (change_weights(lambda s: s[EMBEDDING].zero_()), r"all zeros"),
    "missing weight": (change_weights(lambda s: s.pop(NORM)), r"weights are missing"),
    "wrong shape": (
        change_weights(lambda s: s.update({NORM: torch.ones(5)})),
        r"does not load as a causal language model",
    ),
    "cut file": (
        lambda f: os.truncate(f / "model.safetensors", 5000),
        r"is no safetensors file",
    ),
    "hostile header": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"),
        r"is no safetensors file",
    ),
    "pickles": (only_pickles, r"only pickled weights"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no model.safetensors"),
    "no config": (lambda f: (f / "config.json").unlink(), r"config.json: is missing"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), r"is no JSON"),
    "config of a list": (lambda f: (f / "config.json").write_text("[]"), r"not a JSON object"),
    "no model type": (lambda f: (f / "config.json").write_text("{}"), r"no model_type"),
    "unknown model type": (change_config(model_type="nonesuch"), r"does not load"),
    "remote code": (change_config(auto_map={"AutoModel": "m.M"}), r"remote code"),
    "other vocabulary": (other_tokenizer, r"tokenizer knows 265 tokens, the model 264"),
    "no tokenizer": (
        lambda f: [p.unlink() for p in f.glob("tokenizer*")],
        r"has no tokenizer",
    ),
    "link": (leads_out, r"leads out of"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_folder_is_refused_with_its_place_in_one_line(folder: Path, fault: str) -> None:
    damage, words = BROKEN[fault]
    damage(folder)
    with pytest.raises(BadModel, match=words) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def marking(scheme: str) -> PreTrainedTokenizerFast:
    """A SentencePiece-like tokenizer; "prepended" is Llama 2's own, the others are Metaspace's."""
    tokenizer = Tokenizer(models.BPE())
    if scheme == "prepended":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        parts = [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence(parts)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme, split=False)
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["</s>"], show_progress=False)
    tokenizer.train_from_iterator(["<think>so</think>\n<answer>4 and 5</answer>"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


@pytest.mark.parametrize("scheme", ["always", "first", "prepended"])
def test_a_tokenizer_that_marks_the_start_of_every_text_is_refused(
    folder: Path, scheme: str
) -> None:
    marking(scheme).save_pretrained(folder)
    with pytest.raises(BadModel, match=r"changes a text .*; use a base whose tokenizer") as caught:
        load_reader(str(folder), TagsConfig())
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tokenizer", [marking("never"), tiny_tokenizer(), merging_tokenizer()])
def test_a_tokenizer_that_adds_nothing_is_let_in(tokenizer: PreTrainedTokenizerFast) -> None:
    check_fragments("here", tokenizer, TagsConfig())


OWN = TagsConfig(reasoning="Plan", answer="Final", task="exercise")


def lowering() -> PreTrainedTokenizerFast:
    """A tokenizer that writes everything small: no harm to the default tags."""
    fast = tiny_tokenizer()
    fast.backend_tokenizer.normalizer = normalizers.Lowercase()
    return fast


def test_the_fragments_are_made_of_the_tags_of_the_run() -> None:
    assert "".join(fragments(OWN)) == (
        "<exercise>so</exercise>\n<Plan>so</Plan>\n<Final>4 and 5</Final>"
    )
    check_fragments("here", lowering(), TagsConfig())
    with pytest.raises(BadModel, match=r"<plan>so</plan>.* or other tags"):
        check_fragments("here", lowering(), OWN)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all", "a/b/c", ""])
def test_a_missing_folder_is_refused_without_asking_the_hub(name: str) -> None:
    with pytest.raises(BadModel, match="no such folder"):
        load_policy(name, dtype=torch.float32, device="cpu")


def test_a_hub_name_without_a_network_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BadModel, match="the Hub cannot be reached; give a local model") as caught:
        load_policy("nobody/nothing", dtype=torch.float32, device="cpu")
    assert "\n" not in str(caught.value)


def test_weights_copied_across_dtypes_are_the_rounded_weights() -> None:
    source, target = tiny_model(seed=1), replica(tiny_model(seed=0), torch.bfloat16, "cpu")
    before = [weight.data_ptr() for weight in target.parameters()]
    copy_weights(target, merged_state(source))
    assert [weight.data_ptr() for weight in target.parameters()] == before
    for ours, theirs in zip(target.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())


def test_weights_that_do_not_fit_change_nothing() -> None:
    target = tiny_model()
    before = fingerprint(merged_state(target))
    with pytest.raises(ValueError, match=r"missing.*layers\.1"):
        copy_weights(target, merged_state(tiny_model(seed=1, layers=1)))
    with pytest.raises(ValueError, match=r"is \(65, 32\), expected \(64, 32\)"):
        copy_weights(target, merged_state(tiny_model(seed=1, vocab=65)))
    assert fingerprint(merged_state(target)) == before


def test_a_state_names_tied_weights_once() -> None:
    state = merged_state(tiny_model())
    assert EMBEDDING in state
    assert "lm_head.weight" not in state


def test_a_replica_shares_nothing_and_keeps_its_rotary_frequencies() -> None:
    model = tiny_model()
    twin = replica(model, torch.bfloat16, "cpu")
    buffers = dict(twin.named_buffers())
    assert torch.equal(buffers["model.rotary_emb.inv_freq"], model.model.rotary_emb.inv_freq)
    next(iter(twin.parameters())).data.zero_()
    assert bool(next(iter(model.parameters())).any())


def test_copies_stand_whole_on_their_device_and_the_base_stays_where_it_was() -> None:
    model = tiny_model()
    twins = [
        replica(model, torch.bfloat16, "meta"),
        borrowed(model, merged_state(model), torch.bfloat16, "meta"),
    ]
    for twin in twins:
        held = [*twin.parameters(), *twin.buffers()]
        assert {tensor.device.type for tensor in held} == {"meta"}
    assert {t.device.type for t in [*model.parameters(), *model.buffers()]} == {"cpu"}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_fresh_adapters_change_nothing_and_alone_are_trained() -> None:
    before = logits(tiny_model())
    wrapped = wrap_lora(tiny_model(), rank=4, alpha=8.0)
    torch.testing.assert_close(logits(wrapped), before, atol=0.0, rtol=0.0)
    trained = [name for name, weight in wrapped.named_parameters() if weight.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)


def train(wrapped: nn.Module) -> None:
    torch.manual_seed(0)
    for weight in wrapped.parameters():
        if weight.requires_grad:
            weight.data.normal_(std=0.1)


def test_merged_weights_in_a_plain_model_answer_like_the_adapted_one() -> None:
    wrapped = wrap_lora(tiny_model(), rank=4, alpha=8.0)
    train(wrapped)
    plain = tiny_model(seed=5)
    copy_weights(plain, merged_state(wrapped))
    torch.testing.assert_close(logits(plain), logits(wrapped), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(tiny_model()), logits(wrapped), atol=0.1)


def test_reading_merged_weights_leaves_the_adapted_model_alone() -> None:
    wrapped = wrap_lora(tiny_model(), rank=4, alpha=8.0)
    train(wrapped)
    before = logits(wrapped)
    merged_state(wrapped)
    assert isinstance(wrapped, PeftModel)
    assert torch.equal(logits(wrapped), before)


def test_adapters_of_one_seed_are_equal_and_leave_the_random_state() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second = (dict(wrap_lora(tiny_model(), 2, 4.0).named_parameters()) for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="rank is 0"):
        wrap_lora(tiny_model(), rank=0, alpha=1.0)


def test_a_fingerprint_tells_names_shapes_and_single_bits_but_not_order_or_dtype() -> None:
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}
    same = {"b": torch.ones(2, dtype=torch.bfloat16), "a": torch.arange(6.0).reshape(2, 3)}
    assert fingerprint(same) == fingerprint(state)
    assert len(fingerprint(state)) == 64
    nudged = state["a"].clone()
    nudged[1, 2] = torch.nextafter(nudged[1, 2], torch.tensor(9.0))
    others = [
        {"c": state["a"], "b": state["b"]},
        {"a": state["a"].reshape(3, 2), "b": state["b"]},
        {"a": nudged, "b": state["b"]},
        {"a": state["a"]},
    ]
    assert len({fingerprint(other) for other in [state, *others]}) == 5


def test_text_is_encoded_without_added_tokens() -> None:
    tokenizer = tiny_tokenizer()
    assert encode(tokenizer, "") == ()
    assert len(encode(tokenizer, "ab<answer>")) == 3


def test_end_tokens_are_those_of_tokenizer_and_model_together() -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    assert end_ids(model, tokenizer) == {1}
    model.generation_config.eos_token_id = [7, 9]
    assert end_ids(model, tokenizer) == {1, 7, 9}
    model.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    with pytest.raises(BadModel, match="no end token"):
        end_ids(model, tokenizer)


@pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without a GPU")
def test_an_absent_gpu_is_refused_and_auto_falls_back_on_the_processor() -> None:
    assert pick_device("auto") == "cpu"
    with pytest.raises(ValueError, match="sees no GPU"):
        pick_device("cuda")
