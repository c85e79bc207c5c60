"""The directory of a run: ``plan.yaml`` says what it is of, and it goes on with nothing else."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from plaudit import strict_yaml
from plaudit.whole_file import write_whole
from training.run_directory import differences
from training.settings import SettingsError

FILE = "plan.yaml"
# Where the service listens, and where the run lies, change nothing that is computed.
WITHOUT_EFFECT = {"service.url"}


def record(plan: BaseModel, out: Path) -> None:
    """Write ``OUT/plan.yaml`` if there is none. SettingsError where it is of another plan, and
    where the directory holds something else."""
    path, given = out / FILE, plan.model_dump(mode="json")
    if not path.exists():
        if out.is_dir() and any(not one.name.startswith(".") for one in out.iterdir()):
            raise SettingsError(f"{out} holds other files and no {FILE}; choose another out=DIR")
        out.mkdir(parents=True, exist_ok=True)
        write_whole(path, yaml.safe_dump(given, sort_keys=False).encode())
    recorded: dict[str, Any] = strict_yaml.load(path.read_text())
    changed = [
        one for one in differences(given, recorded) if one.split(" is ")[0] not in WITHOUT_EFFECT
    ]
    if changed:
        raise SettingsError(
            f"{path}: the directory belongs to another plan: {'; '.join(changed)}. Choose another "
            f"out=DIR, or remove {out}"
        )
