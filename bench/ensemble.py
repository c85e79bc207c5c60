"""What four members cost together, beside one of them alone: separate ones, LoRA's, a shared trunk.

    python bench/ensemble.py [--model runs/demo/warm] [--members 4] [--data ../shared/data]
        [--repeats 3] [--size 2]

Members are made of one model by noise, for speed depends on which tensors they share and on nothing
else of them: "separate" ones share none, "LoRA" members (each with its adapters merged) all but the
weights of linear layers, those with a "shared trunk" the lower two thirds of the blocks. In every
round one member, and the first 2, 3, … together, score the same pairs one after another; figures
are medians.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from contestants import MAX_BATCH_TOKENS, Contestant, Sequences, median_seconds
from loads import load
from torch import nn
from transformers import PreTrainedModel

from plaudit.conversation import Encoder
from plaudit.joint_model import Asked, JointModel, join
from plaudit.reward_model import RewardModel

RANK, NOISE = 16, 0.01


def separate(model: PreTrainedModel) -> None:
    for tensor in model.parameters():
        tensor.mul_(1 + NOISE * torch.randn_like(tensor))


def lora(model: PreTrainedModel) -> None:
    for layer in model.base_model.modules():
        if isinstance(layer, nn.Linear):
            weight = layer.weight
            up, down = (torch.randn(size, RANK, device=weight.device) for size in weight.shape)
            weight.add_(NOISE * weight.std() * up @ down.T)


def shared_trunk(model: PreTrainedModel) -> None:
    blocks = model.base_model.layers
    for block in blocks[len(blocks) * 2 // 3 :]:
        separate(block)


KINDS: dict[str, Callable[[PreTrainedModel], None]] = {
    "separate": separate,
    "LoRA": lora,
    "shared trunk": shared_trunk,
}


class Together:
    """The first ``count`` members."""

    def __init__(self, joints: list[JointModel], count: int):
        self.name = f"{count} members"
        places = [(joint, place) for joint in joints for place in range(len(joint.members))]
        self._asked = places[:count]
        self._joints = joints

    def seconds(self, sequences: Sequences) -> float:
        began = time.perf_counter()
        for joint in self._joints:
            members = [place for one, place in self._asked if one is joint]
            joint.score_all([Asked(m, ids) for ids in sequences for m in members], MAX_BATCH_TOKENS)
        return time.perf_counter() - began


@torch.inference_mode()
def members(path: Path, count: int, change: Callable[[PreTrainedModel], None]) -> list[JointModel]:
    """Of one model, each changed in its own way, joined as the service joins them."""
    torch.manual_seed(0)
    models = [RewardModel.load(path, "cpu", "bfloat16") for _ in range(count)]
    for model in models:
        change(model.classifier)
    return join(models)


def megabytes(joints: list[JointModel]) -> float:
    """What the members' weights take, a tensor that several hold counted once."""
    tensors = [t for j in joints for m in j.members for t in m.classifier.parameters()]
    held: int = sum({t.data_ptr(): t.nbytes for t in tensors}.values())
    return held / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("runs/demo/warm"))
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--size", type=int, default=2, help="16 pairs each")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    encoder = Encoder.load(options.model, 4096)
    sequences = load("pairs", encoder, options.data, options.size)
    counts = range(1, options.members + 1)
    several = [f"{count} members" for count in counts[1:]]
    print(
        f"| members | {' | '.join(several)} | weights, MB |\n" + "|---" * (len(several) + 2) + "|"
    )
    for name, change in KINDS.items():
        joints = members(options.model, options.members, change)
        contestants: list[Contestant] = [Together(joints, count) for count in counts]
        alone, *others = median_seconds(contestants, sequences, options.repeats).values()
        cells = [name, *(f"{taken / alone:.2f}" for taken in others), f"{megabytes(joints):.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
