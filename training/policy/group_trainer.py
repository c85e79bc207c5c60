"""TRL's GRPO trainer with rewards that are fetched while the next part of a batch is generated."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from trl import GRPOTrainer

from training.policy.rewards_ahead import RewardFunction, RewardsAhead


class GroupTrainer(GRPOTrainer):
    """GRPO (arXiv:2402.03300) over batches that are generated in ``parts``.

    TRL would generate a whole batch and then wait for all its rewards. Every response is of the
    same weights either way.
    """

    def __init__(self, reward: RewardFunction, parts: int, **arguments: Any):
        self._ahead, self._parts = RewardsAhead(reward), parts
        super().__init__(reward_funcs=self._ahead, **arguments)

    def _generate(self, prompts: list[Any]) -> Any:
        """TRL's columns of a batch: lists of one entry a response, or None."""
        copies = self.num_generations if self.model.training else self.num_generations_eval
        made = []
        for part in cut(prompts, copies, self._parts):
            made.append(super()._generate(part))
            self._ahead.ask(part, made[-1][3])
        return tuple(joined(column) for column in zip(*made, strict=True))

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        # TRL computes the loss alone by autocast, and all the rest in the weights' own precision.
        with self.accelerator.autocast():
            return super()._generate_and_score_completions(inputs)


def cut(prompts: Sequence[Any], copies: int, parts: int) -> Iterator[list[Any]]:
    """Into at most so many parts; the ``copies`` of a prompt, which are neighbours, stay whole."""
    groups = len(prompts) // copies
    size = -(-groups // min(parts, groups)) * copies
    for start in range(0, len(prompts), size):
        yield list(prompts[start : start + size])


def joined(column: Sequence[Any]) -> Any:
    """Of the parts' lists one, of their None None; the fields of no rollout function are none."""
    first = column[0]
    if first is None or isinstance(first, dict):
        return first
    return list(chain.from_iterable(column))
