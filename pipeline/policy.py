"""Policies on disk and in memory: load one safely, adapt it, read its weights, move them.

Everything about a model folder is checked at the door: safetensors alone (a pickle can run code),
no remote code, no shard missing or lying outside the folder, no weight missing, misshapen or not
finite, a vocabulary that fits. What is wrong becomes one `BadModel` with place and remedy.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

State = Mapping[str, Tensor]

_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class BadModel(ValueError):
    """A model cannot be used as a policy; nothing of it was kept."""

    def __init__(self, place: str | Path, found: str, remedy: str) -> None:
        super().__init__(f"model refused: {place}: {found}; {remedy}")


def pick_device(name: str) -> str:
    """"cpu" or "cuda"; "auto" is cuda where there is one. Raises ValueError for an absent cuda."""
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
    with its end token. Raises BadModel; never runs code or unpickles anything from the folder.
    """
    folder = Path(folder_or_name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(folder_or_name)
    check_folder(folder)
    tokenizer = _load_tokenizer(folder)
    model = _load_model(folder, dtype)
    check_weights(folder, model)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise BadModel(
            folder,
            f"the tokenizer knows {len(tokenizer)} tokens, the model {rows}",
            "put the tokenizer that belongs to these weights into the folder",
        )
    return model.to(device).eval(), tokenizer


def check_folder(folder: Path) -> None:
    """Refuse a folder by its files alone, before anything of it is loaded. Raises BadModel."""
    config = _json(folder / "config.json")
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).exists() and "auto_map" in _json(folder / name):
            raise BadModel(
                folder / name,
                "asks for remote code (auto_map), which is never run",
                "use a model whose architecture is part of transformers",
            )
    if "model_type" not in config:
        raise BadModel(
            folder / "config.json", "has no model_type", "copy the model folder anew, config whole"
        )
    for name in _weight_files(folder):
        _check_shard(folder, name)


def check_weights(place: str | Path, model: nn.Module) -> None:
    """Refuse weights that are not finite, or embeddings that are all zero. Raises BadModel."""
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise BadModel(place, f"weight {name} holds NaN or infinity", "use a sound checkpoint")
    embedding = next(iter(model.parameters()))
    if not bool(embedding.any()):
        raise BadModel(place, "the first weight is all zeros", "use a trained checkpoint")


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


def wrap_lora(
    model: PreTrainedModel, rank: int, alpha: float, *, seed: int = 0
) -> nn.Module:
    """The model with LoRA adapters on every linear layer but the head; only they train.

    The update is alpha / rank * B A (arXiv 2106.09685); B starts at zero, A is drawn from `seed`.
    The model is changed in place. Raises ValueError for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"LoRA rank is {rank}; it must be at least 1 (0 in config means no LoRA)")
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - optional and heavy

    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0, bias="none"
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wrapped: nn.Module = get_peft_model(model, config)
    return wrapped


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
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(state[name])


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
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415 - only where adapters are

    deltas: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            parts = [module.get_delta_weight(adapter) for adapter in module.active_adapters]
            deltas[_plain(f"{name}.base_layer.weight")] = torch.stack(parts).sum(0)
    return deltas


def _from_hub(name: str) -> Path:
    """The folder of a Hub model, downloaded or from the cache."""
    missing = f"{name!r} is no folder here"
    if name.count("/") > 1 or name.startswith((".", "~", "/")) or not name:
        raise BadModel(name, "no such folder", "check model.base, a model folder or a Hub name")
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except HFValidationError as error:
        raise BadModel(name, f"{missing} and no Hub name", "check model.base") from error
    except HfHubHTTPError as error:
        reason = str(error).splitlines()[0]
        raise BadModel(name, f"{missing}; the Hub says: {reason}", "check model.base") from error
    except OSError as error:
        raise BadModel(
            name,
            f"{missing} and the Hub cannot be reached",
            "give a local model folder, or connect once so that it is cached",
        ) from error


def _json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadModel(path, "is missing", "point to a folder in transformers format") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadModel(path, f"is no JSON ({error})", "copy the model folder anew") from error
    if not isinstance(value, dict):
        raise BadModel(path, "is not a JSON object", "copy the model folder anew")
    return value


def _weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files the model is made of."""
    if (folder / _INDEX).exists():
        shards = _json(folder / _INDEX).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(s, str) for s in shards.values()):
            raise BadModel(folder / _INDEX, "has no weight_map", "copy the model folder anew")
        return sorted(set(shards.values()))
    if (folder / "model.safetensors").exists():
        return ["model.safetensors"]
    if any(path.suffix in _PICKLES for path in folder.iterdir()):
        raise BadModel(
            folder,
            "has only pickled weights, which can run code and are never read",
            "convert it with save_pretrained to safetensors where you trust it",
        )
    raise BadModel(folder, "has no model.safetensors", "point to a folder that has the weights")


def _check_shard(folder: Path, name: str) -> None:
    """The shard is there, inside the folder (or its Hub cache), and reads as safetensors."""
    path = folder / name
    if not path.is_file():
        raise BadModel(path, "a shard is missing", "copy the model folder anew, every shard of it")
    home = folder.resolve()
    if home.parent.name == "snapshots":
        home = home.parent.parent  # the Hub's cache links snapshots to blobs beside them
    if not path.resolve().is_relative_to(home):
        raise BadModel(path, f"leads out of {home}", "put the file itself into the folder")
    try:
        with safe_open(path, framework="pt") as file:
            file.keys()
    except (SafetensorError, OSError) as error:
        raise BadModel(path, f"is no safetensors file ({error})", "copy it anew") from error


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModel(
            folder, f"the tokenizer does not load ({_first_line(error)})", "copy tokenizer.json too"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
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
            f"does not load as a causal language model ({_first_line(error)})",
            "check that config.json and the weights belong together",
        ) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise BadModel(
            folder,
            f"{len(missing)} weights are missing, first {missing[0]}",
            "copy the model folder anew, every shard of it",
        )
    loaded: PreTrainedModel = model
    return loaded


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
