"""The door of a model folder: what is refused by its files alone, before anything is loaded.

Safetensors alone (a pickle can run code), no remote code, no shard missing or lying outside the
folder. What is wrong becomes one `BadModel` with place and remedy.
"""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open

_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
_INDEX = "model.safetensors.index.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class BadModel(ValueError):
    """A model cannot be used as a policy; nothing of it was kept."""

    def __init__(self, place: str | Path, found: str, remedy: str) -> None:
        super().__init__(f"model refused: {place}: {found}; {remedy}")


def find_folder(folder_or_name: str) -> Path:
    """The local folder, else that of the Hub model of this name. Raises BadModel."""
    folder = Path(folder_or_name).expanduser()
    return folder if folder_or_name and folder.is_dir() else _from_hub(folder_or_name)


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
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise BadModel(folder, "has no tokenizer", "copy tokenizer.json of this model into it")


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
        reason = first_line(error)
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
        raise BadModel(
            path, f"is no JSON ({first_line(error)})", "copy the model folder anew"
        ) from error
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
        reason = first_line(error)
        raise BadModel(path, f"is no safetensors file ({reason})", "copy it anew") from error


def first_line(error: Exception) -> str:
    """What an error says, cut to one line; its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)
