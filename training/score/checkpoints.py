"""Scores by a checkpoint or an ensemble file, in this process.

Letters: N responses, M members.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from plaudit import objectives
from plaudit.checkpoint import sha256
from plaudit.conversation import ConversationError, Encoder, TokenSequence
from plaudit.wire import ItemError, Truncation
from training.evaluate import candidates
from training.evaluate.accuracy import Array
from training.evaluate.candidates import Bundle, Candidates
from training.evaluate.evaluation import Key, encoders, families, key
from training.measure import calibrated
from training.score.outcome import Asked, Outcome, Scorer

Encoded = TokenSequence | ItemError


def score(
    path: Path, asked: Sequence[Asked], truncation: Truncation, dtype: str
) -> tuple[Scorer, list[Outcome]]:
    """In the order of ``asked``. What one member cannot score is that response's error."""
    found = candidates.read([path])
    encoded = {k: [encode(e, one, truncation) for one in asked] for k, e in encoders(found).items()}
    outcomes = [_before(column) for column in zip(*encoded.values(), strict=True)]
    fit = [place for place, outcome in enumerate(outcomes) if outcome.error is None]
    sequences = {k: [some[place] for place in fit] for k, some in encoded.items()}
    if fit:
        scores = score_all(found, sequences, dtype)
        served = rewards(found, scores, [asked[place][1] for place in fit])
        for place, row, reward in zip(fit, scores, served, strict=True):
            outcomes[place] = _after(outcomes[place], row, float(reward), bool(found.combined))
    return _scorer(path, found), outcomes


def encode(encoder: Encoder, asked: Asked, truncation: Truncation) -> Encoded:
    try:
        return encoder.fit(encoder.pair(*asked), truncation)
    except ConversationError as error:
        return ItemError(error.kind, str(error))


def score_all(found: Candidates, encoded: Mapping[Key, Sequence[Encoded]], dtype: str) -> Array:
    """Raw scores (N, M) of N responses without an error by every checkpoint."""
    columns = []
    for family, joint in families(found.checkpoints.values(), dtype):
        sequences = [
            [one.ids for one in encoded[key(member.manifest)] if isinstance(one, TokenSequence)]
            for member in family
        ]
        columns.append(joint.score_each(sequences))
    return np.concatenate(columns).T


def rewards(found: Candidates, scores: Array, responses: Sequence[str]) -> Array:
    """Rewards (N,) as served, of raw scores (N, M) of responses."""
    columns = {
        name: calibrated(one.manifest.calibration, column, responses)
        for (name, one), column in zip(found.checkpoints.items(), scores.T, strict=True)
    }
    if not found.combined:
        return next(iter(columns.values()))
    (several,) = found.combined
    return several.combine(np.stack([columns[name] for name in several.members], axis=1))


def _before(encoded: Sequence[Encoded]) -> Outcome:
    """By what each kind of member makes of a response."""
    truncated = 0
    for one in encoded:
        if isinstance(one, ItemError):
            return Outcome(reward=None, error=one)
        truncated = max(truncated, one.truncated)
    return Outcome(None, truncated=truncated)


def _after(outcome: Outcome, scores: Array, reward: float, combines: bool) -> Outcome:
    if not np.isfinite(scores).all():
        error = ItemError("non-finite", "the score is not finite; try --dtype float32")
        return Outcome(None, error=error)
    raw = [float(score) for score in scores]
    if combines:
        return replace(outcome, reward=reward, member_scores=raw)
    return replace(outcome, reward=reward, score=raw[0])


def _scorer(path: Path, found: Candidates) -> Scorer:
    """Under the revision that a service would give."""
    if not found.combined:
        (only,) = found.checkpoints.values()
        curved = only.manifest.calibration.reads_length
        return Scorer(str(path), only.revision, "reward" if curved else "score")
    (several,) = found.combined
    revisions = [found.checkpoints[name].revision for name in several.members]
    if isinstance(several, Bundle):
        named = dict(zip(several.weights, revisions, strict=True))
        return Scorer(str(path), objectives.revision(named, several.weights), "reward")
    return Scorer(str(path), sha256(*(one.encode() for one in revisions)), "reward")
