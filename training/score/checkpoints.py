"""Scores by a checkpoint or an ensemble file, in this process.

Letters: N responses.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from tqdm import tqdm

from plaudit import ensemble, joint_model, objectives
from plaudit.conversation import ConversationError, Encoder, TokenSequence
from plaudit.wire import ItemError, Truncation
from training.evaluate import candidates
from training.evaluate.accuracy import Array
from training.evaluate.candidates import Bundle, Candidates, Ensemble
from training.evaluate.evaluation import Key, encoders, families, key
from training.measure import calibrated
from training.score.outcome import Asked, Outcome, Scorer

Encoded = TokenSequence | ItemError


class Raw(Struct, frozen=True):
    """A raw score of one checkpoint, and how many tokens were cut for it."""

    score: float
    cut: int


# By the names of the checkpoints that count for one response, in the order in which errors do.
Made = Mapping[str, Raw | ItemError]


def score(
    path: Path, asked: Sequence[Asked], truncation: Truncation, dtype: str
) -> tuple[Scorer, list[Outcome]]:
    """In the order of ``asked``. What too few members can score is that response's error."""
    found = candidates.read([path])
    encoded = {k: [encode(e, one, truncation) for one in asked] for k, e in encoders(found).items()}
    raw = score_all(found, encoded, dtype)
    made = [{name: raw[name][place] for name in counted(found)} for place in range(len(asked))]
    outcomes = [_before(found, one) for one in made]
    fit = [place for place, outcome in enumerate(outcomes) if outcome.error is None]
    served = rewards(found, [made[place] for place in fit], [asked[place][1] for place in fit])
    for place, reward in zip(fit, served.tolist(), strict=True):
        outcomes[place] = replace(outcomes[place], reward=reward)
    return _scorer(path, found), outcomes


def encode(encoder: Encoder, asked: Asked, truncation: Truncation) -> Encoded:
    try:
        return encoder.fit(encoder.pair(*asked), truncation)
    except ConversationError as error:
        return ItemError(error.kind, str(error))


def score_all(
    found: Candidates, encoded: Mapping[Key, Sequence[Encoded]], dtype: str
) -> dict[str, list[Raw | ItemError]]:
    """What every checkpoint makes of each of N responses."""
    raw: dict[str, list[Raw | ItemError]] = {}
    for family, joint in families(found.checkpoints.values(), dtype):
        rows = [encoded[key(member.manifest)] for member in family]
        wanted = [
            joint_model.Asked(position, one.ids)
            for position, row in enumerate(rows)
            for one in row
            if isinstance(one, TokenSequence)
        ]
        bar = partial(tqdm, desc="scored", unit="forward", leave=False)
        scores = iter(joint.score_all(wanted, watched=bar).tolist())
        for member, row in zip(family, rows, strict=True):
            raw[member.name] = [
                one if isinstance(one, ItemError) else finite(next(scores), one.truncated)
                for one in row
            ]
    return raw


def finite(score: float, cut: int) -> Raw | ItemError:
    if math.isfinite(score):
        return Raw(score, cut)
    return ItemError("non-finite", "the score is not finite; try --dtype float32")


def counted(found: Candidates) -> list[str]:
    """The checkpoints that a reward is made of, the centre first."""
    if not found.combined:
        return [*found.checkpoints]
    (several,) = found.combined
    centre = several.centre if isinstance(several, Ensemble) else None
    return [*several.members] if centre is None else [centre, *several.members]


def rewards(found: Candidates, made: Sequence[Made], responses: Sequence[str]) -> Array:
    """Rewards (N,) as served, of N responses that have one."""
    columns = member_rewards(found, made, responses)
    if not found.combined:
        return next(iter(columns.values()))
    (several,) = found.combined
    return several.combine(columns)


def member_rewards(
    found: Candidates, made: Sequence[Made], responses: Sequence[str]
) -> dict[str, Array]:
    """Each checkpoint's own rewards (N,) of N responses; NaN where it made an error."""
    columns = {}
    for name in counted(found):
        row = [one[name] for one in made]
        raw = np.array([one.score if isinstance(one, Raw) else np.nan for one in row])
        columns[name] = calibrated(found.checkpoints[name].manifest.calibration, raw, responses)
    return columns


def _before(found: Candidates, made: Made) -> Outcome:
    """An outcome without its reward, or with the error in the place of one."""
    failed = {name: one for name, one in made.items() if isinstance(one, ItemError)}
    raw = {name: one for name, one in made.items() if isinstance(one, Raw)}
    several = found.combined[0] if found.combined else None
    if failed and (several is None or not several.is_enough(failed)):
        return Outcome(None, error=next(iter(failed.values())))
    outcome = Outcome(None, failed=failed or None, truncated=max(one.cut for one in raw.values()))
    scores = {name: one.score for name, one in raw.items()}
    if several is None:
        return replace(outcome, score=next(iter(scores.values())))
    outcome = replace(outcome, member_scores=[scores.get(name) for name in several.members])
    if isinstance(several, Ensemble) and several.centre is not None:
        return replace(outcome, centre_score=scores[several.centre])
    return outcome


def _scorer(path: Path, found: Candidates) -> Scorer:
    """Under the revision that a service would give."""
    if not found.combined:
        (only,) = found.checkpoints.values()
        return Scorer(str(path), only.revision)
    (several,) = found.combined
    revisions = [found.checkpoints[name].revision for name in several.members]
    if isinstance(several, Bundle):
        named = dict(zip(several.weights, revisions, strict=True))
        return Scorer(str(path), objectives.revision(named, several.weights))
    centre = None if several.centre is None else found.checkpoints[several.centre].revision
    return Scorer(str(path), ensemble.revision(revisions, centre))
