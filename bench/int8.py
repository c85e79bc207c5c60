"""What int8 weights give and cost beside bf16: python bench/int8.py MODEL …

Of the probes of each checkpoint, against their stored fp32 scores: differences, pairs of probes
that change their order, bytes of the weights, CPU seconds of one scoring of all.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from plaudit import probes
from plaudit.reward_model import RewardModel

HEAD = """\
| model | dtype | largest difference | root mean square | flips | fp32 margin of the worst \
| weights | CPU seconds |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="a checkpoint")
    models = parser.parse_args().models
    print(HEAD)
    for model in models:
        for dtype in ("bfloat16", "int8"):
            print(measure(model, dtype), flush=True)


def measure(path: Path, dtype: str) -> str:
    model = RewardModel.load(path, "cpu", dtype)
    expected = np.array([probe.score for probe in model.manifest.probes])
    sequences = probes.stored_ids(model)
    start = time.process_time()
    found = model.score_all(sequences)
    seconds = time.process_time() - start
    held = sum(p.numel() * p.element_size() for p in model.classifier.parameters())
    off = found - expected
    lost = margins_of_flips(expected, found)
    return (
        f"| {path.name} | {dtype} | {abs(off).max():.2g} | {(off**2).mean() ** 0.5:.2g} "
        f"| {len(lost)} | {lost.max(initial=0):.2g} | {held / 1e6:.0f} MB | {seconds:.2f} |"
    )


def margins_of_flips(
    expected: np.ndarray[tuple[int], np.dtype[np.float64]],
    found: np.ndarray[tuple[int], np.dtype[np.float32]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of all pairs that lose their order, how far they were apart."""
    left, right = np.triu_indices(len(expected), 1)
    margins = expected[left] - expected[right]
    flipped: np.ndarray[tuple[int], np.dtype[np.float64]] = abs(
        margins[np.sign(margins) != np.sign(found[left] - found[right])]
    )
    return flipped


if __name__ == "__main__":
    main()
