"""What members that share their lowest blocks cost together, beside one of them alone.

    python bench/ensemble.py MEMBER MEMBER … [--data ../shared/data] [--repeats 3] [--size 2]

Members are checkpoints, each of which also runs by itself. In every round one member, and the first
2, 3, … together, score the same pairs one after another; figures are medians.
"""

import argparse
import time
from pathlib import Path

from contestants import MAX_BATCH_TOKENS, Contestant, Sequences, median_seconds
from loads import load

from plaudit.conversation import Encoder
from plaudit.joint_model import Asked, JointModel, join
from plaudit.reward_model import RewardModel


class Together:
    """The first ``count`` members."""

    def __init__(self, joint: JointModel, count: int):
        self.name = f"{count} members"
        self._joint, self._members = joint, range(count)

    def seconds(self, sequences: Sequences) -> float:
        asked = [Asked(member, ids) for ids in sequences for member in self._members]
        began = time.perf_counter()
        self._joint.score_all(asked, MAX_BATCH_TOKENS)
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
    contestants: list[Contestant] = [Together(joint, count) for count in counts]
    found = median_seconds(contestants, sequences, options.repeats)
    alone, *others = found.values()
    for count, taken in zip(counts[1:], others, strict=True):
        expected = count - joint.shared_blocks * (count - 1) / blocks
        print(f"{count} members: {taken / alone:.2f} times one; by blocks alone {expected:.2f}")


if __name__ == "__main__":
    main()
