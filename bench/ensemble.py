"""What members that share their lowest blocks cost together, beside one of them alone.

    python bench/ensemble.py MEMBER MEMBER … [--data ../shared/data] [--repeats 3] [--size 2]

Members are checkpoints, each of which also runs by itself. In every round one member, and the first
2, 3, … together, score the same pairs one after another; figures are medians.
"""

import argparse
import statistics
import time
from pathlib import Path

from loads import load

from plaudit.conversation import Encoder
from plaudit.joint_model import Asked, JointModel, join
from plaudit.reward_model import RewardModel

MAX_BATCH_TOKENS = 8192


def seconds(joint: JointModel, sequences: list[list[int]], members: int) -> float:
    asked = [Asked(member, ids) for ids in sequences for member in range(members)]
    began = time.perf_counter()
    joint.score_all(asked, MAX_BATCH_TOKENS)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("members", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--size", type=int, default=2, help="16 pairs each")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    (joint,) = join(RewardModel.load(path, dtype="bfloat16") for path in options.members)
    blocks = joint.members[0].classifier.config.num_hidden_layers
    print(f"{len(joint.members)} members share {joint.shared_blocks} of {blocks} blocks")
    encoder = Encoder.load(options.members[0], 4096)
    sequences = load("pairs", encoder, options.data, options.size)
    counts = range(1, len(joint.members) + 1)
    found: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(options.repeats):
        for count in counts:
            found[count].append(seconds(joint, sequences, count))
    alone = statistics.median(found[1])
    for count in counts[1:]:
        cost = statistics.median(found[count]) / alone
        expected = count - joint.shared_blocks * (count - 1) / blocks
        print(f"{count} members: {cost:.2f} times one member; by blocks alone {expected:.2f}")


if __name__ == "__main__":
    main()
