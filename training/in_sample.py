"""Which prompts a checkpoint was trained on; strength by such a member is memory of the label.

A checkpoint says in ``reward.json`` what it was trained on, and its head fitted to; so do its base
and, of an average, its members. What cannot be known is refused.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plaudit import checkpoint
from plaudit.checkpoint import Base, Manifest
from training import backbone, lineage, settings
from training.data.shapes import Pair
from training.data.splits import Split
from training.hub import WEIGHTS_FILE
from training.lineage import Lineage
from training.settings import DataSettings, SettingsError, TrainSettings


def refuse_member(member: Path, pairs: Sequence[Pair]) -> None:
    """Refuse a checkpoint that was trained on any of the pairs' prompts, or whose base was."""
    for name, split in trained_on(member):
        refuse_seen(f"{member}: {name}", split, pairs)


def refuse_base(base: Base, pairs: Sequence[Pair]) -> None:
    """The same of a backbone, named as in the settings, before anything is trained from it."""
    for name, split in base_trained_on(base):
        refuse_seen(str(name), split, pairs)


def refuse_seen(who: str, split: Split, pairs: Sequence[Pair]) -> None:
    seen = sum(split.side(pair) == "train" for pair in pairs)
    if seen:
        raise SettingsError(
            f"{who} was trained on the prompts of {seen} of {len(pairs)} pairs; what it finds of "
            "them is memory. Let plaudit strength PLAN train members on other folds, from a base "
            "that saw none, into an empty out=DIR"
        )


def trained_on(directory: Path) -> Iterator[tuple[Path, Split]]:
    """The splits whose train side a checkpoint has seen: its own, its head's, its base's, its
    members'."""
    manifest, _ = checkpoint.read(directory)
    base = manifest.base
    recorded = manifest.training.get("settings")
    if recorded is not None:
        config = settings.parse(TrainSettings, recorded, f"{directory}: settings")
        yield directory, config.split
        # A base's own head was fitted to what that base was, which is asked below.
        if config.head is not None and config.head != Path(config.model) / WEIGHTS_FILE:
            yield config.head, head_split(directory, manifest)
        if base.start is not None:
            base = Base(config.model, base.start)
    elif not manifest.members:
        raise SettingsError(f"{directory}: reward.json does not say what it was trained on")
    yield from members_trained_on(directory, manifest)
    yield from base_trained_on(base)


def head_split(directory: Path, manifest: Manifest) -> Split:
    """As ``plaudit probe-head`` has written it into the head, and training into ``reward.json``."""
    recorded = manifest.training.get("head", {}).get("split")
    if recorded is None:
        raise SettingsError(
            f"{directory}: its head does not say what it was fitted to; fit one again with plaudit "
            "probe-head, or say probe, and train from that"
        )
    return Split.model_validate_json(recorded)


def members_trained_on(directory: Path, manifest: Manifest) -> Iterator[tuple[Path, Split]]:
    for member in manifest.members:
        path = Path(member.path)
        if not checkpoint.is_complete(path) or checkpoint.read(path)[1] != member.digest:
            raise SettingsError(
                f"{directory}: {path}, of which it is an average, is not there as it was, to say "
                "what it was trained on; run the command where it was averaged"
            )
        yield from trained_on(path)


def base_trained_on(base: Base) -> Iterator[tuple[Path, Split]]:
    """Nothing of a hub's model, or of one without ``reward.json``: those are not ours."""
    if base.commit is not None:
        return
    path = Path(base.id)
    if not path.is_dir() or backbone.digest_of_base(base.id) != base.digest:
        raise SettingsError(
            f"{base.id}, a base, is not there as it was, to say what it was trained on; run the "
            "command where it was trained from"
        )
    if checkpoint.is_complete(path):
        yield from trained_on(path)
    tuned = lineage.read(path)
    if tuned is not None:
        yield path, settings.parse(DataSettings, data_of(tuned), f"{path}: settings").split
        yield from base_trained_on(tuned.base)


def data_of(tuned: Lineage) -> dict[str, Any]:
    return {name: tuned.settings[name] for name in DataSettings.model_fields}
