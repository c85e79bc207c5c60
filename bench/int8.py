"""What int8 weights give and cost beside bf16: python bench/int8.py MODEL …

Of the probes of each checkpoint, against their stored fp32 scores: differences, pairs of probes
that change their order, bytes of the weights, CPU seconds of one scoring of all.
"""

import argparse
import time
from itertools import combinations
from pathlib import Path

import numpy as np

from plaudit import probes
from plaudit.reward_model import RewardModel
from service import parity_report

HEAD = """\
| model | dtype | largest difference | root mean square | flips | flips over 0.05 \
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
    expected = np.array([probe.score for probe in model.manifest.probes], np.float32)
    sequences = probes.stored_ids(model)
    start = time.process_time()
    found = model.score_all(sequences)
    seconds = time.process_time() - start
    held = sum(p.numel() * p.element_size() for p in model.classifier.parameters())
    pairs = list(combinations(range(len(expected)), 2))
    row = parity_report.row("torch", dtype, [found], expected, pairs, margin=0.05)
    rms = ((found - expected) ** 2).mean() ** 0.5
    return (
        f"| {path.name} | {dtype} | {row.largest_difference:.2g} | {rms:.2g} | {row.flips} "
        f"| {row.strong_flips} | {held / 1e6:.0f} MB | {seconds:.2f} |"
    )


if __name__ == "__main__":
    main()
