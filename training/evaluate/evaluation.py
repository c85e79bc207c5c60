"""Scores of candidates on pairs. Letters: P pairs of a source, M members."""

import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
from tqdm import tqdm

from plaudit import checkpoint
from plaudit.checkpoint import Manifest
from plaudit.conversation import Encoder
from plaudit.joint_model import JointModel
from plaudit.reward_model import RewardModel
from training.data import splits
from training.data.encoding import EncodedPair, encode
from training.data.shapes import LISTED, Pair
from training.data.sources import Loaded
from training.data.splits import Split
from training.evaluate.baselines import LENGTH_ONLY, length_only
from training.evaluate.candidates import PLAIN_MAX_TOKENS, Bundle, Candidates, Checkpoint, Ensemble
from training.measure import Measured, rewards

Side = Literal[splits.Name, "all"]
Overlong = Literal["cut", "drop"]
SIDES = (*get_args(splits.Name), "all")

# By source, by row.
Pairs = dict[str, list[Pair]]
Scores = dict[str, dict[str, Measured]]
# By what decides the token ids, by source: encoded pairs, and how many were over the limit.
Key = tuple[str, str, int, checkpoint.Side]
Encoded = dict[Key, dict[str, tuple[list[EncodedPair], int]]]


class EvaluationError(ValueError):
    """An evaluation that would mislead; the text says what mends it."""


def choose(loaded: Iterable[Loaded], split: Split, side: Side) -> Pairs:
    """The pairs of each source that measures, on one side; of a benchmark all."""
    found: Pairs = {}
    for one in loaded:
        if one.source.side == "train":
            continue
        name, limit = one.source.name, one.source.max_pairs
        if name in found:
            raise EvaluationError(f"two sources are named {name!r}; name them apart")
        pairs = one.pairs
        if side != "all" and not one.source.is_benchmark:
            pairs = splits.select(pairs, split, side, None)
        if limit is not None and one.source.shape in LISTED:
            pairs = splits.sample_rows(pairs, limit)
        elif limit is not None:
            pairs = splits.sample(pairs, limit, lambda pair: pair)
        if not pairs:
            raise EvaluationError(
                f"{name}: no pair is on the {side} side; change split or use --split all"
            )
        found[name] = pairs
    if not found:
        raise EvaluationError("every source has side: train; add one to measure with")
    return found


def key(manifest: Manifest) -> Key:
    digests = manifest.digests
    return digests.tokenizer, digests.template, manifest.max_tokens, manifest.truncation_side


def encoders(candidates: Candidates, most: int | None = None) -> dict[Key, Encoder]:
    """One encoder for all checkpoints that make the same token ids; its limit is ``most`` where a
    checkpoint's own is higher."""
    owners = {key(one.manifest): one for one in candidates.checkpoints.values()}
    bounds = [] if most is None else [most]
    return {
        k: Encoder.load(one.path, min([one.manifest.max_tokens, *bounds]))
        for k, one in owners.items()
    }


def fitting(pairs: Pairs, found: Sequence[Encoder], listed: Collection[str]) -> Pairs:
    """The pairs within every encoder's limit, so that all rows see the same pairs; of a ``listed``
    source those of rows that fit whole."""
    kept = {source: _fitting(some, found, source in listed) for source, some in pairs.items()}
    empty = [source for source, some in kept.items() if not some]
    if empty:
        raise EvaluationError(f"no pair of {', '.join(empty)} fits: use --overlong cut")
    return kept


def _fitting(pairs: list[Pair], found: Sequence[Encoder], listed: bool) -> list[Pair]:
    lines = Counter(pair.line for pair in pairs)
    for encoder in found:
        pairs = [pair.pair for pair in encode(pairs, encoder, None)[0]]
    whole = Counter(pair.line for pair in pairs)
    return [pair for pair in pairs if not listed or whole[pair.line] == lines[pair.line]]


def encode_all(
    candidates: Candidates,
    pairs: Pairs,
    overlong: Overlong,
    listed: Collection[str],
    most: int | None,
) -> tuple[Pairs, Encoded]:
    """The pairs to score, and their token ids: pairs over a limit, at most ``most``, are cut at the
    checkpoint's side, or dropped for every row; of a ``listed`` source whole rows of the file."""
    found = encoders(candidates, most)
    kept = fitting(pairs, [*found.values()], listed) if overlong == "drop" else pairs
    encoded = {
        k: {source: encode(some, encoder, k[-1]) for source, some in kept.items()}
        for k, encoder in found.items()
    }
    return kept, encoded


def score_all(candidates: Candidates, pairs: Pairs, encoded: Encoded, dtype: str) -> Scores:
    """Raw scores of every checkpoint."""
    scores: Scores = {source: {} for source in pairs}
    for family, joint in families(candidates.checkpoints.values(), dtype):
        for source in pairs:
            found = score(family, joint, source, encoded)
            scores[source] |= {
                one.name: measured for one, measured in zip(family, found, strict=True)
            }
        del joint  # before the next family is loaded
    return scores


def calibrate_all(candidates: Candidates, pairs: Pairs, raw: Scores) -> Scores:
    """Rewards of every checkpoint, as served."""
    calibrations = {n: c.manifest.calibration for n, c in candidates.checkpoints.items()}
    return {
        source: {
            name: rewards(one, calibrations[name], pairs[source]) for name, one in rows.items()
        }
        for source, rows in raw.items()
    }


def judged(candidates: Candidates, pairs: Pairs, raw: Scores, rewarded: Scores) -> Scores:
    """What each row of the report is judged by: a checkpoint's raw scores, or its rewards where a
    length curve changes their order; then those of ensembles, bundles and the baseline."""
    curved = [n for n, c in candidates.checkpoints.items() if c.manifest.calibration.reads_length]
    return {
        source: rows
        | {name: rewarded[source][name] for name in curved}
        | {one.name: combined(one, rewarded[source]) for one in candidates.combined}
        | {LENGTH_ONLY: length_only(pairs[source])}
        for source, rows in raw.items()
    }


def families(
    checkpoints: Iterable[Checkpoint], dtype: str
) -> Iterator[tuple[list[Checkpoint], JointModel]]:
    """Neighbours that share blocks together; in memory are one family and one model more."""
    family: list[Checkpoint] = []
    joint: JointModel | None = None
    for one in checkpoints:
        model = RewardModel.load(one.path, dtype=dtype, max_tokens=PLAIN_MAX_TOKENS)
        if joint is not None and joint.adopt(model):
            family.append(one)
            continue
        if joint is not None:
            yield family, joint
        family, joint = [one], JointModel(model)
    if joint is not None:
        yield family, joint


def score(
    family: Sequence[Checkpoint], joint: JointModel, source: str, encoded: Encoded
) -> list[Measured]:
    """Raw scores of one source by each checkpoint of a family; non-finite ones are refused."""
    started = time.monotonic()
    pairs = [encoded[key(one.manifest)][source][0] for one in family]
    sequences = [
        [*(pair.chosen for pair in some), *(pair.rejected for pair in some)] for some in pairs
    ]
    bar = partial(tqdm, desc=source, unit="forward", leave=False)
    rows = joint.score_each(sequences, bar).reshape(len(family), 2, -1)
    found = [Measured(chosen, rejected) for chosen, rejected in rows]
    for one, measured in zip(family, found, strict=True):
        check_finite(measured, one.name, source)
    names = ", ".join(one.name for one in family)
    seconds = time.monotonic() - started
    print(f"{names}: {source}, {len(pairs[0])} pairs in {seconds:.0f} s", file=sys.stderr)
    return found


def check_finite(measured: Measured, name: str, source: str) -> None:
    bad = ~(np.isfinite(measured.chosen) & np.isfinite(measured.rejected))
    if bad.any():
        raise EvaluationError(
            f"{name}: {bad.sum()} pairs of {source} have a score that is not finite; try "
            "--dtype float32"
        )


def combined(several: Ensemble | Bundle, rewarded: Mapping[str, Measured]) -> Measured:
    """The rewards of an ensemble or a bundle, from the checkpoints' rewards."""
    return Measured(
        several.combine({name: measured.chosen for name, measured in rewarded.items()}),
        several.combine({name: measured.rejected for name, measured in rewarded.items()}),
    )
