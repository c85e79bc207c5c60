"""Reward functions for TRL's ``GRPOTrainer`` and its relatives.

    from plaudit.integrations.trl import AsyncReward
    trainer = GRPOTrainer(..., reward_funcs=AsyncReward("http://127.0.0.1:8000", model="warm"))

TRL (1.16, ``_calculate_rewards``) calls with every prompt repeated for its completions, and takes a
list of floats or None. Async functions run together; both have to be picklable.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

from plaudit.client.batches import ItemLike
from plaudit.client.scores import EnsembleScores, Scores
from plaudit.integrations.conversations import said
from plaudit.integrations.failures import disagreement, is_degraded, settle
from plaudit.integrations.source import Options, Source, ask, ask_async, source_of
from plaudit.integrations.wait_share import WaitShare

Messages = Sequence[Mapping[str, Any]]
LogMetric = Callable[[str, float], None]
LogExtra = Callable[[str, list[Any]], None]


class _Reward:
    def __init__(
        self, url: str | Sequence[str] | None = None, /, **options: Unpack[Options]
    ) -> None:
        self.__setstate__(source_of("trl", {"url": url, **options}))

    def __getstate__(self) -> Source:
        return self.source

    def __setstate__(self, source: Source) -> None:
        self.source, self._wait = source, WaitShare()
        # What TRL calls the reward in its metrics.
        self.__name__ = source.ensemble or source.model or "plaudit"

    def _settled(
        self,
        scores: Scores | EnsembleScores,
        log_metric: LogMetric | None,
        log_extra: LogExtra | None,
    ) -> list[float | None]:
        wait = self._wait.answer()
        rewards = settle(scores, self.source.failed)
        spread = disagreement(scores)
        known = [one for one in spread if one is not None]
        if log_metric is not None:
            log_metric("plaudit/wait_share", wait)
            log_metric("plaudit/failed_share", scores.rewards.count(None) / max(len(rewards), 1))
            if self.source.of_ensemble:
                degraded = sum(map(is_degraded, scores.items))
                log_metric("plaudit/degraded_share", degraded / max(len(rewards), 1))
            if known:
                log_metric("plaudit/disagreement", sum(known) / len(known))
        if log_extra is not None and self.source.of_ensemble:
            log_extra(f"{self.__name__}_disagreement", spread)
        return rewards


class Reward(_Reward):
    """Blocks the training step while it waits."""

    def __call__(
        self,
        prompts: Sequence[str | Messages],
        completions: Sequence[str | Messages],
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **columns: object,
    ) -> list[float | None]:
        """One reward a completion; ``columns``, of the dataset, are not used."""
        self._wait.ask()
        scores = ask(self.source, list(map(item, prompts, completions)))
        return self._settled(scores, log_metric, log_extra)


class AsyncReward(_Reward):
    """As ``Reward``; waits together with the other async reward functions of the trainer."""

    async def __call__(
        self,
        prompts: Sequence[str | Messages],
        completions: Sequence[str | Messages],
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        **columns: object,
    ) -> list[float | None]:
        """As ``Reward.__call__``."""
        self._wait.ask()
        scores = await ask_async(self.source, list(map(item, prompts, completions)))
        return self._settled(scores, log_metric, log_extra)


def item(prompt: str | Messages, completion: str | Messages) -> ItemLike:
    """Plain texts, or conversations, whose completion may be several messages."""
    if isinstance(completion, str):
        return {"prompt": said(prompt), "response": completion}
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    return {"messages": said([*prompt, *completion])}
