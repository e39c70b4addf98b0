"""Policies in memory: load one, adapt it, read its weights, move them.

What a folder holds is checked before (`model_folder`) and after loading: no weight missing,
misshapen or not finite, a vocabulary that fits, a tokenizer that adds nothing to a text.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.config import ModelConfig, TagsConfig
from pipeline.models.folder import BadModel, check_folder, find_folder, first_line

__all__ = [
    "DTYPES",
    "BadModel",
    "State",
    "borrowed",
    "check_fragments",
    "check_weights",
    "copy_weights",
    "encode",
    "end_ids",
    "fingerprint",
    "fragments",
    "load_policy",
    "load_reader",
    "load_trainable",
    "merged_state",
    "pick_device",
    "replica",
    "wrap_lora",
]

State = Mapping[str, Tensor]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> str:
    """ "cpu" or "cuda"; "auto" is cuda where there is one. Raises ValueError for an absent cuda."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {name} asked for, but torch sees no GPU; set model.device to cpu")
    return name


def load_policy(
    folder_or_name: str, *, dtype: torch.dtype, device: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in eval mode and its tokenizer, from a folder or else from the Hub.

    The weights take `dtype`, whatever they are stored in. A tokenizer without a pad token pads
    with its end token; `check_fragments` holds it against a run's tags. Raises BadModel; never
    runs code or unpickles anything from the folder.
    """
    folder = find_folder(folder_or_name)
    check_folder(folder)
    tokenizer = _load_tokenizer(folder)
    model = _load_model(folder, dtype)
    check_weights(folder, model)
    rows = model.get_input_embeddings().get_parameter("weight").shape[0]
    if len(tokenizer) > rows:
        raise BadModel(
            folder,
            f"the tokenizer knows {len(tokenizer)} tokens, the model {rows}",
            "put the tokenizer that belongs to these weights into the folder",
        )
    return _quiet(moved(model, device)), tokenizer


def load_trainable(place: str, config: ModelConfig, device: str) -> PreTrainedModel:
    """The base in float32 from a folder or the Hub, in LoRA adapters where these are asked for."""
    model, _ = load_policy(place, dtype=torch.float32, device=device)
    if config.lora_rank > 0:
        # peft's wrapper answers as the model it wraps
        return cast(PreTrainedModel, wrap_lora(model, config.lora_rank, config.lora_alpha))
    return model


def load_reader(folder_or_name: str, tags: TagsConfig) -> tuple[PreTrainedTokenizerBase, int]:
    """The tokenizer of such a folder, and the tokens its model can read; no weight is loaded.

    Raises BadModel, also for a tokenizer that `check_fragments` refuses.
    """
    folder = find_folder(folder_or_name)
    check_folder(folder)
    tokenizer = _load_tokenizer(folder)
    check_fragments(folder, tokenizer, tags)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BadModel(
            folder, f"its config.json is of no known model ({first_line(error)})", "use another"
        ) from error
    return tokenizer, _context(config)


def check_weights(place: str | Path, model: nn.Module) -> None:
    """Refuse weights that are not finite, or embeddings that are all zero. Raises BadModel."""
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise BadModel(place, f"weight {name} holds NaN or infinity", "use a sound checkpoint")
    embedding = next(iter(model.parameters()))
    if not bool(embedding.any()):
        raise BadModel(place, "the first weight is all zeros", "use a trained checkpoint")


def longest_row(model: PreTrainedModel) -> int:
    """Tokens that the model can read in one row; without a practical bound where it names none."""
    return _context(model.config)


def _context(config: PreTrainedConfig) -> int:
    named = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(named or 2**31 - 1)


def fragments(tags: TagsConfig) -> tuple[str, ...]:
    """What attempts and proposals are made of under these tags, where each piece is encoded by
    itself."""
    blocks = ((tags.task, ("so",)), (tags.reasoning, ("so",)), (tags.answer, ("4", " and 5")))
    pieces = [(f"<{name}>", *said, f"</{name}>", "\n") for name, said in blocks]
    return tuple(piece for block in pieces for piece in block)[:-1]


def check_fragments(
    place: str | Path, tokenizer: PreTrainedTokenizerBase, tags: TagsConfig
) -> None:
    """Refuse a tokenizer under which fragments, decoded together, are not the text they make.

    One that puts a space mark before every text (SentencePiece, as in Llama 2) would have
    references scored and trained that no policy writes; one that changes a tag of the run's would
    find no block. Raises BadModel.
    """
    pieces = fragments(tags)
    text = "".join(pieces)
    ids = [token for piece in pieces for token in encode(tokenizer, piece)]
    back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if back != text:
        raise BadModel(
            place,
            f"the tokenizer changes a text that is encoded in fragments ({text!r} comes back as "
            f"{back!r})",
            "use a base whose tokenizer puts no space before a text, such as Qwen's or Llama 3's, "
            "or other tags",
        )


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Token ids of the text alone: no begin or end token is added.

    A control string inside the text, such as "<|end|>" or a tag, becomes its control token. Where
    text is content that must not control anything, the caller breaks such strings up first.
    """
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids that end a completion: the tokenizer's end token and those the model was shipped with.

    Raises BadModel where there is none, for then nothing but the budget would end a completion.
    """
    generation = model.generation_config
    stated = generation.eos_token_id if generation is not None else None
    ids = set(stated if isinstance(stated, list) else [stated]) | {tokenizer.eos_token_id}
    ids.discard(None)
    if not ids:
        raise BadModel(
            tokenizer.name_or_path, "has no end token", "set eos_token in tokenizer_config.json"
        )
    return frozenset(ids)


def wrap_lora(model: PreTrainedModel, rank: int, alpha: float, *, seed: int = 0) -> nn.Module:
    """The model with LoRA adapters on every linear layer but the head; only they train.

    The update is alpha / rank * B A (arXiv 2106.09685); B starts at zero, A is drawn from `seed`.
    The model is changed in place. Raises ValueError for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"LoRA rank is {rank}; it must be at least 1 (0 in config means no LoRA)")
    try:
        from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - optional and heavy
    except ModuleNotFoundError as error:
        raise ValueError("LoRA needs peft; pip install 'coclimb[lora]'") from error
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type] # declared int, used as a float
        target_modules="all-linear",
        lora_dropout=0.0,
        bias="none",
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


def replica(
    model: PreTrainedModel, dtype: torch.dtype, device: str | torch.device
) -> PreTrainedModel:
    """A copy of a plain model on `device`, in eval mode, with weights in `dtype`, no gradients.

    Buffers keep their dtype, as `from_pretrained` would leave them: `model.to(dtype)` also rounds
    the rotary frequencies, which moved log-probabilities of a random model by up to 0.007.
    """
    return _twin(model, {w: w.detach().to(device, dtype, copy=True) for w in model.parameters()})


def borrowed(
    model: PreTrainedModel, state: State, dtype: torch.dtype, device: str | torch.device
) -> PreTrainedModel:
    """A plain model of this one's shape that reads the weights of a state of `merged_state`.

    It is in eval mode, on `device`. Weights that are there in `dtype` are not copied: they are the
    state's own, so never load others into it. Raises ValueError where they do not fit.
    """
    own = dict(_plain_names(model))
    _check_fit(own, state)
    lent = {
        weight: state[name].detach().to(device, dtype)
        for name, weight in own.items()
        if isinstance(weight, nn.Parameter)
    }
    twin = _twin(model, lent)
    copied = dict(twin.named_buffers())
    with torch.no_grad():
        for name in copied.keys() & state.keys():
            copied[name].copy_(state[name])
    return twin


def _twin(model: PreTrainedModel, weights: Mapping[nn.Parameter, Tensor]) -> PreTrainedModel:
    """A plain model of this one's shape over these weights, on their device; none is copied."""
    lent: dict[int, object] = {
        id(own): nn.Parameter(given, requires_grad=False) for own, given in weights.items()
    }
    device = next(iter(weights.values())).device
    return moved(_quiet(copy.deepcopy(model, lent)), device)


def moved(model: PreTrainedModel, device: str | torch.device) -> PreTrainedModel:
    """The same model, on that device; what is there already is not copied."""
    nn.Module.to(model, device)
    return model


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """Full weights by the plain model's own names, LoRA merged, tied weights once.

    Detached, in the model's dtype. Weights without an adapter share memory with the model: copy
    them before training goes on, or hand them on at once.
    """
    with torch.no_grad():
        state = {}
        deltas = _lora_deltas(model)
        for name, weight in _plain_names(model):
            delta = deltas.get(name)
            state[name] = weight.detach() if delta is None else weight.detach() + delta
    return state


def copy_weights(target: nn.Module, state: State) -> None:
    """Write a state of `merged_state` into a plain model, in place, across dtypes and devices.

    Raises ValueError, with nothing changed, where names or shapes differ.
    """
    own = dict(_plain_names(target))
    _check_fit(own, state)
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(state[name])


def _check_fit(own: State, state: State) -> None:
    if own.keys() != state.keys():
        raise ValueError(
            f"weights do not fit: missing {sorted(own.keys() - state.keys())[:3]}, "
            f"unknown {sorted(state.keys() - own.keys())[:3]}; both must be the same architecture"
        )
    for name, weight in own.items():
        if weight.shape != state[name].shape:
            raise ValueError(
                f"weight {name} is {tuple(state[name].shape)}, expected {tuple(weight.shape)}"
            )


def fingerprint(state: State) -> str:
    """SHA-256, in hex, of all names, shapes and float32 bytes; the order of the state is nothing.

    Each tensor is hashed on its own (in threads: hashing releases the interpreter) and the digest
    is of the sorted list of name, shape and tensor digest. NaN and -0 count by their bits.
    """

    def line(name: str) -> str:
        flat = state[name].detach().to(device="cpu", dtype=torch.float32).contiguous()
        digest = hashlib.sha256(flat.reshape(-1).numpy().data).hexdigest()
        return json.dumps([name, list(flat.shape), digest])

    with ThreadPoolExecutor(max_workers=4) as pool:
        lines = list(pool.map(line, sorted(state)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _plain_names(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters and kept buffers under the names they have without adapters; tied ones once."""
    kept = model.state_dict().keys()
    pairs = [*model.named_parameters(), *((n, b) for n, b in model.named_buffers() if n in kept)]
    return [(_plain(name), weight) for name, weight in pairs if ".lora_" not in name]


def _plain(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _lora_deltas(model: nn.Module) -> dict[str, Tensor]:
    """What the active adapters add to each weight, by plain name; empty without adapters."""
    if not any(".lora_A." in name for name, _ in model.named_parameters()):
        return {}
    from peft.tuners.lora import Linear as LoraLinear  # noqa: PLC0415 - only where adapters are

    deltas: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLinear):
            parts = [module.get_delta_weight(adapter) for adapter in module.active_adapters]
            deltas[_plain(f"{name}.base_layer.weight")] = torch.stack(parts).sum(0)
    return deltas


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModel(
            folder,
            f"the tokenizer does not load ({first_line(error)})",
            "copy its tokenizer files anew",
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    # lengths are checked by row, against the model's context; the tokenizer need not warn as well
    tokenizer.model_max_length = int(1e30)
    return tokenizer


def _load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        loaded: object = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise BadModel(
            folder,
            f"does not load as a causal language model ({first_line(error)})",
            "check that config.json and the weights belong together",
        ) from error
    model, report = cast("tuple[PreTrainedModel, dict[str, set[str]]]", loaded)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise BadModel(
            folder,
            f"{len(missing)} weights are missing, first {missing[0]}",
            "copy the model folder anew, every shard of it",
        )
    return model


def _quiet(model: PreTrainedModel) -> PreTrainedModel:
    """The model in eval mode: no dropout."""
    model.train(False)
    return model
