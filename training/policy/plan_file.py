"""The directory of a run: ``plan.yaml`` says what it is of, and it goes on with nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from plaudit import strict_yaml
from plaudit.checkpoint import file_digest
from plaudit.whole_file import write_whole
from training import backbone
from training.data.jsonlines import DataError
from training.run_directory import differences
from training.settings import SettingsError
from training.shared_files import alone

FILE = "plan.yaml"
# Settings, wherever they stand in a plan, that change nothing that is computed: where the service
# listens and how it is asked, and what is saved and logged meanwhile.
WITHOUT_EFFECT = {
    "url", "timeout_seconds", "prompts_per_call", "save_steps", "logging_steps", "log_to",
}  # fmt: skip
INPUTS = "inputs"


# Digests by what a plan calls them: a base, or a file.
Inputs = Mapping[str, str]


def digests(bases: Sequence[str], files: Sequence[Path]) -> dict[str, str]:
    """Of local or hub bases and of files, by what they are called. DataError without a file."""
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(f"{missing[0]}: no file of this name")
    found = {base: backbone.digest_of_base(base) for base in bases}
    return found | {str(path): file_digest(path) for path in files}


def record(plan: BaseModel, out: Path, inputs: Inputs) -> None:
    """Write ``OUT/plan.yaml`` if there is none. SettingsError where it is of another plan or of
    other inputs, and where the directory holds something else."""
    path, given = out / FILE, plan.model_dump(mode="json") | {INPUTS: dict(inputs)}
    with alone(path):  # several processes of one launch record the same
        if not path.exists():
            if any(not one.name.startswith(".") for one in out.iterdir()):
                raise SettingsError(
                    f"{out} holds other files and no {FILE}; choose another out=DIR"
                )
            write_whole(path, yaml.safe_dump(given, sort_keys=False).encode())
    recorded: dict[str, Any] = strict_yaml.load(path.read_text())
    changed = [one for one in differences(given, recorded) if has_effect(one.split(" is ")[0])]
    if changed:
        raise SettingsError(
            f"{path}: the directory belongs to another plan or other inputs: "
            f"{'; '.join(changed)}. Choose another out=DIR, or remove {out}"
        )


def has_effect(key: str) -> bool:
    """Of a plan; ``key`` is one with dots."""
    parts = key.split(".")
    return parts[0] == INPUTS or WITHOUT_EFFECT.isdisjoint(parts)
