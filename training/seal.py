"""Completes a checkpoint: scores the probes and a reference set, then writes reward.json."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from plaudit import checkpoint, probes
from plaudit.calibration import Calibration
from plaudit.checkpoint import Manifest
from plaudit.reward_model import RewardModel
from training.data.encoding import EncodedPair
from training.length_bias.curve import length_calibration
from training.measure import Measured, rewards, score_pairs, stats
from training.precision import measuring_dtype
from training.settings import Kind, SettingsError


def seal(
    directory: Path,
    draft: Manifest,
    reference: Sequence[EncodedPair],
    kind: Kind,
    reported: Sequence[bool] | None = None,
) -> Measured:
    """Write ``reward.json``: ``draft`` with probes, statistics and calibration filled in. Returns
    the rewards of the validation pairs, or of those whose accuracy is to be ``reported``.

    Everything is measured on the files, not on the model in memory: what is promised is what a
    loader gets. Probes are scored in fp32, the validation pairs ``reference`` as fast as possible.
    """
    scored_probes = probes.make(RewardModel.open(directory, draft, "", "auto", "float32"))
    quick = RewardModel.open(directory, draft, "", "auto", measuring_dtype())
    measured = score_pairs(quick, reference)
    refuse_diverged(directory, [probe.score for probe in scored_probes], measured)
    pairs = [pair.pair for pair in reference]
    found = stats(measured, "validation", pairs)
    if found.std == 0:
        raise SettingsError(f"{directory}: all {found.count} validation responses score the same")
    calibration = (
        length_calibration(measured, pairs, found)
        if kind == "length"
        else Calibration(kind="standardise", mean=found.mean, std=found.std)
    )
    served = rewards(measured, calibration, pairs)
    if reported is not None:
        served = Measured(served.chosen[np.array(reported)], served.rejected[np.array(reported)])
    manifest = msgspec.structs.replace(
        draft,
        stats=found,
        calibration=calibration,
        probes=scored_probes,
        training=draft.training | {"validation_accuracy": served.accuracy},
    )
    checkpoint.write(directory, manifest)
    return served


def refuse_diverged(directory: Path, scores: Sequence[float], measured: Measured) -> None:
    """A saved state would only go on from the same weights, so the directory has to go."""
    found = np.concatenate([scores, measured.chosen, measured.rejected])
    if not np.isfinite(found).all():
        raise SettingsError(
            f"{directory}: training diverged, {int((~np.isfinite(found)).sum())} of {len(found)} "
            f"scores are not finite; lower lr, then remove {directory}"
        )
