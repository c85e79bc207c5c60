"""A model of the hub: the commit that this process reads, and the weights of that commit.

The hub is asked once in a process, so that all that is loaded of a model, and its digest, are of
one commit, also where its authors change it meanwhile.
"""

import json
from functools import cache
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError

from plaudit.checkpoint import INDEX_FILE
from training.settings import SettingsError

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
# What Transformers takes where it is told of none; of a directory it means nothing.
MAIN = "main"


def revision(model: str) -> str:
    """What ``from_pretrained`` is to be told beside the directory or hub id of a model."""
    return MAIN if Path(model).is_dir() else commit(model)


@cache
def commit(model: str) -> str:
    """The head of the hub's main branch, or, where the hub is not to be reached, of what the local
    cache holds of it. SettingsError where there is neither."""
    try:
        return Path(hf_hub_download(model, CONFIG_FILE)).parent.name
    except (OSError, HFValidationError) as error:
        raise SettingsError(
            f"{model}: no such directory, and no model that the hub or its local cache gives "
            f"({type(error).__name__}); correct the name, or fetch it where the hub can be "
            f"reached: hf download {model}"
        ) from error


def weight_files(model: str) -> list[Path]:
    """Those that Transformers loads, fetched if they are not in the local cache."""
    try:
        return [_file(model, WEIGHTS_FILE)]
    except EntryNotFoundError:
        return _shards(model)


def _shards(model: str) -> list[Path]:
    try:
        index = json.loads(_file(model, INDEX_FILE).read_text())
        return [_file(model, name) for name in sorted(set(index["weight_map"].values()))]
    except EntryNotFoundError as error:
        raise SettingsError(
            f"{model}: commit {commit(model)} has no .safetensors weights that the hub or its "
            "local cache gives. Pickled weights are never read; convert them where you trust them: "
            "model.save_pretrained(DIR)"
        ) from error


def _file(model: str, name: str) -> Path:
    return Path(hf_hub_download(model, name, revision=commit(model)))
