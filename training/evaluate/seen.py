"""Which of the evaluated pairs have prompts that a checkpoint was trained on.

The evaluation's own split does not say: a checkpoint may have been trained by another.
"""

import sys
from collections.abc import Sequence
from typing import Any

from plaudit.checkpoint import CheckpointError
from training.data.shapes import Pair
from training.data.splits import Split
from training.evaluate.candidates import Candidates, Checkpoint
from training.evaluate.evaluation import Pairs
from training.in_sample import trained_on
from training.settings import SettingsError


def of_models(found: Candidates, pairs: Pairs) -> dict[str, Any]:
    """By checkpoint: of each source the pairs on the train side of a split that it, its base or a
    member was trained by, and what hides further ones. A line on stderr for each that is not held
    out for certain. Benchmarks, which are never trained on, are not counted."""
    seen = {}
    for name, one in found.checkpoints.items():
        splits, unknown = splits_of(one)
        counts = {source: count(some, splits) for source, some in pairs.items()}
        seen[name] = {"pairs": counts, "unknown": unknown}
        for line in lines(counts, unknown, pairs):
            print(f"{name}: {line}", file=sys.stderr)
    return {"trained_on": seen}


def splits_of(one: Checkpoint) -> tuple[list[Split], str | None]:
    """Those that can be found, each once, and why there may be more."""
    if one.manifest.kind == "plain":
        return [], "a plain model, which does not say what it was trained on"
    found: dict[Split, None] = {}
    try:
        for _, split in trained_on(one.path):
            found[split] = None
    except (SettingsError, CheckpointError) as error:
        return [*found], str(error)
    return [*found], None


def count(pairs: Sequence[Pair], splits: Sequence[Split]) -> int:
    return sum(
        not pair.benchmark and any(split.side(pair) == "train" for split in splits)
        for pair in pairs
    )


def lines(counts: dict[str, int], unknown: str | None, pairs: Pairs) -> list[str]:
    found = [
        f"not held out: {counted} of {len(pairs[source])} pairs of {source} have prompts on the "
        "train side of a split that it was trained by"
        for source, counted in counts.items()
        if counted
    ]
    return found if unknown is None else [*found, f"held out or not, nobody can tell: {unknown}"]
