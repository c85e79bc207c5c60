"""What became of each member of a plan: one file beside its checkpoint, whole or not there."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
from transformers import TrainerCallback

from plaudit import checkpoint
from plaudit.whole_file import write_whole
from training.settings import SettingsError

FILE = "outcome.json"


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``plan`` is the digest of the plan's file, ``seconds`` were spent in all attempts.

    A member whose process was killed stays ``running`` until it is started again.
    """

    plan: str
    state: Literal["running", "complete", "failed"] = "running"
    steps: int = 0
    of: int | None = None
    seconds: float = 0.0
    validation_accuracy: float | None = None
    error: str | None = None


def read(directory: Path) -> Outcome | None:
    """None of a member that was not begun."""
    path = directory / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Outcome)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path}: {error}; remove it") from None


def write(directory: Path, outcome: Outcome) -> None:
    data = msgspec.json.format(msgspec.json.encode(outcome), indent=1)
    write_whole(directory / FILE, data)


def complete(directory: Path, plan: str) -> None:
    """Of a member that is: its process may have ended between the seal and its last word."""
    found = read(directory)
    if found is None or found.state != "complete":
        before = found or Outcome(plan)
        news = {"state": "complete", "error": None, "validation_accuracy": accuracy(directory)}
        write(directory, msgspec.structs.replace(before, **news))


def forget_error(directory: Path) -> None:
    """Of a failed member that is started again: its error was an earlier attempt's."""
    found = read(directory)
    if found is not None and found.state == "failed":
        write(directory, msgspec.structs.replace(found, state="running", error=None))


def fail(directory: Path, found: Outcome, error: str) -> None:
    """Of a member whose process could not say it itself."""
    write(directory, msgspec.structs.replace(found, state="failed", error=error))


class Attempt(TrainerCallback):
    """One attempt at a member, which keeps its outcome as the trainer goes on."""

    def __init__(self, directory: Path, plan: str, changed: Callable[[], None]):
        """``changed`` is called after each change of the file."""
        self._directory = directory
        self._changed = changed
        self._began = time.monotonic()
        before = read(directory)
        self._before = 0.0 if before is None else before.seconds
        # Steps that no saved state holds are trained again.
        self._outcome = Outcome(plan)

    def note(self, **news: Any) -> None:
        seconds = round(self._before + time.monotonic() - self._began, 1)
        self._outcome = msgspec.structs.replace(self._outcome, seconds=seconds, **news)
        write(self._directory, self._outcome)
        self._changed()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note_steps(state)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note_steps(state)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note_steps(state)

    def _note_steps(self, state: Any) -> None:
        if state.is_world_process_zero:
            self.note(steps=state.global_step, of=state.max_steps)


@contextmanager
def attempt(directory: Path, plan: str, changed: Callable[[], None]) -> Iterator[Attempt]:
    """Around the training of a member: running, then complete, or failed with the reason. What is
    raised behind the seal takes nothing from the member."""
    directory.mkdir(parents=True, exist_ok=True)
    found = Attempt(directory, plan, changed)
    found.note()
    try:
        yield found
    except Exception as error:
        if checkpoint.is_complete(directory):
            found.note(state="complete", validation_accuracy=accuracy(directory))
            raise
        found.note(state="failed", error=f"{type(error).__name__}: {error}")
        raise
    found.note(state="complete", validation_accuracy=accuracy(directory))


def accuracy(directory: Path) -> float:
    """What the member's seal has measured."""
    manifest, _ = checkpoint.read_manifest(directory)
    found: float = manifest.training["validation_accuracy"]
    return found
