"""The order of training pairs that share prompts."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class PromptSampler(Sampler[int]):
    """Prompts in random order, the pairs of one prompt beside each other.

    A packed batch then holds a prompt once for all its pairs, and once each response that stands in
    several of them (arXiv:2203.02155 section 3.5 puts all comparisons of a prompt in one batch;
    here a batch may end inside a prompt). The order follows from the seed and the epoch alone.
    """

    def __init__(self, prompts: Sequence[str], seed: int):
        self._groups: dict[str, list[int]] = {}
        for position, prompt in enumerate(prompts):
            self._groups.setdefault(prompt, []).append(position)
        self._length = len(prompts)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self._seed << 16) + self._epoch)
        groups = list(self._groups.values())
        for group in torch.randperm(len(groups), generator=generator).tolist():
            order = torch.randperm(len(groups[group]), generator=generator).tolist()
            yield from (groups[group][i] for i in order)
