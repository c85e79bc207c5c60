"""The directory of a run: ``plan.yaml`` says what it is of, and it goes on with nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from plaudit import strict_yaml
from plaudit.checkpoint import file_digest
from plaudit.whole_file import write_whole
from training import backbone, data_files
from training.run_directory import differences
from training.settings import SettingsError
from training.shared_files import alone

FILE = "plan.yaml"
# Settings, wherever they stand in a plan, that change nothing that is computed: where the service
# listens and how it is asked, and what is saved and logged meanwhile.
WITHOUT_EFFECT = {
    "url", "port", "timeout_seconds", "prompts_per_call",
    "save_steps", "logging_steps", "log_to",
}  # fmt: skip
INPUTS = "inputs"
# The input that a service is, and no file.
JUDGE = "judge"


# Digests by what a plan calls them: a base, or a file.
Inputs = Mapping[str, str]


def digests(bases: Sequence[str], files: Sequence[Path]) -> dict[str, str]:
    """Of local or hub bases and of files, by what they are called. DataError without a file."""
    data_files.require(files)
    found = {base: backbone.digest_of_base(base) for base in bases}
    return found | {str(path): file_digest(path) for path in files}


def record(
    plan: BaseModel | Mapping[str, Any], out: Path, inputs: Inputs, own: Sequence[str] = ("*",)
) -> None:
    """Write ``OUT/plan.yaml`` if there is none. SettingsError where it is of another plan or of
    other inputs, and where the directory holds what the run would take for its ``own`` (globs)."""
    values = plan.model_dump(mode="json") if isinstance(plan, BaseModel) else dict(plan)
    path, given = out / FILE, values | {INPUTS: dict(inputs)}
    with alone(path):  # several processes of one launch record the same
        if not path.exists():
            refuse_strange(out, own)
            write_whole(path, yaml.safe_dump(given, sort_keys=False).encode())
    recorded: dict[str, Any] = strict_yaml.load(path.read_text())
    changed = [one for one in differences(given, recorded) if has_effect(one.split(" is ")[0])]
    if changed:
        raise SettingsError(
            f"{path}: the directory belongs to another plan or other inputs: "
            f"{'; '.join(changed)}. {remedy(changed)}, choose another out=DIR, or remove {out}"
        )


def refuse_strange(out: Path, own: Sequence[str]) -> None:
    found = (path for pattern in own for path in sorted(out.glob(pattern)))
    strange = next((path for path in found if not path.name.startswith(".")), None)
    if strange is not None:
        raise SettingsError(
            f"{out} holds {strange.relative_to(out)} and no {FILE} that says which plan it is of; "
            "choose another out=DIR"
        )


def remedy(changed: Sequence[str]) -> str:
    judge = [one for one in changed if one.startswith(f"{INPUTS}.{JUDGE} ")]
    said = ["serve that judge again"] if judge else []
    said += ["restore what it was"] if len(changed) > len(judge) else []
    return " and ".join(said).capitalize()


def has_effect(key: str) -> bool:
    """Of a plan; ``key`` is one with dots."""
    parts = key.split(".")
    return parts[0] == INPUTS or WITHOUT_EFFECT.isdisjoint(parts)
