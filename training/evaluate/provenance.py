"""What an evaluation was made from: revisions, limits and digests, never text. Pure."""

from collections.abc import Sequence
from typing import Any

from training.data.sources import Loaded
from training.evaluate.accuracy import LEVEL, RESAMPLES, SEED
from training.evaluate.candidates import Candidates
from training.evaluate.evaluation import Encoded, Pairs, key


def of_models(found: Candidates, encoded: Encoded) -> dict[str, Any]:
    """Checkpoints, with the pairs of each source cut to their limit, ensembles and bundles."""
    checkpoints = [
        {
            "name": name,
            "kind": one.manifest.kind,
            "path": str(one.path),
            "revision": one.revision,
            "max_tokens": one.manifest.max_tokens,
            "calibration": {
                "kind": one.manifest.calibration.kind,
                "reference": one.manifest.calibration.reference,
            },
            "cut_pairs": {s: over for s, (_, over) in encoded[key(one.manifest)].items()},
        }
        for name, one in found.checkpoints.items()
    ]
    ensembles = [
        {
            "name": one.name,
            "path": str(one.path),
            "members": list(one.members),
            "aggregate": one.aggregate,
            "coefficient": one.coefficient,
            "centre": one.centre,
        }
        for one in found.ensembles
    ]
    bundles = [
        {
            "name": one.name,
            "path": str(one.path),
            "members": list(one.members),
            "weights": one.weights,
        }
        for one in found.bundles
    ]
    return {"checkpoints": checkpoints, "ensembles": ensembles, "bundles": bundles}


def of_data(loaded: Sequence[Loaded], pairs: Pairs, kept: Pairs) -> dict[str, Any]:
    """Digests of the sources, what of them was left out, and how intervals were drawn."""
    data = {
        one.source.name: {
            "digest": one.digest,
            "benchmark": one.source.is_benchmark,
            "refused_rows": len(one.refused),
            "dropped_pairs": len(pairs[one.source.name]) - len(kept[one.source.name]),
        }
        for one in loaded
    }
    bootstrap = {"over": "prompts", "resamples": RESAMPLES, "level": LEVEL, "seed": SEED}
    return {"data": data, "bootstrap": bootstrap}
