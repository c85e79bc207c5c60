"""Calls of one sequence each: what the prefix cache gives, and what it costs where nothing recurs.

    python bench/one_by_one.py --model runs/real/warm [--repeats 3] [--size 4]

Each load (bench/loads.py) is scored in its order of arrival, one forward for each sequence, with a
cache that is empty at first and without one; "together" scores it as one request, and so does
"deterministic", in that mode. In every round all run one after another; figures are medians.
"""

import argparse
import time
from pathlib import Path

from contestants import Contestant, Plaudit, Sequences, median_seconds
from loads import LOADS, load

from plaudit.conversation import Encoder
from plaudit.joint_model import Asked, JointModel
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel


class OneByOne:
    """A forward for each sequence."""

    def __init__(self, name: str, model: RewardModel, megabytes: int):
        self.name, self._model, self._bytes = name, model, megabytes * 2**20

    def seconds(self, sequences: Sequences) -> float:
        joint = JointModel(self._model, PrefixCache(self._bytes) if self._bytes else None)
        began = time.perf_counter()
        for ids in sequences:
            joint.compute([Asked(0, ids)])
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("runs/demo/warm"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--megabytes", type=int, default=512, help="of the prefix cache")
    parser.add_argument("--size", type=int, default=4, help="prompts of 16 in a load")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = RewardModel.load(options.model, "cpu", "bfloat16")
    exact = RewardModel.load(options.model, "cpu", "bfloat16")
    exact.make_deterministic()
    encoder = Encoder.load(options.model, 4096)
    contestants: list[Contestant] = [
        OneByOne("cached", model, options.megabytes),
        OneByOne("uncached", model, 0),
        Plaudit(model, "together"),
        Plaudit(exact, "deterministic"),
    ]
    ratios = [("uncached", "cached"), ("together", "cached"), ("deterministic", "together")]
    print(f"| load | sequences | {' | '.join(f'{a} / {b}' for a, b in ratios)} |")
    print("|---" * (2 + len(ratios)) + "|")
    for name in options.loads:
        sequences = load(name, encoder, options.data, options.size)
        found = median_seconds(contestants, sequences, options.repeats)
        cells = [name, str(len(sequences)), *(f"{found[a] / found[b]:.2f}" for a, b in ratios)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
