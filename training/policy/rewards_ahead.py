"""Rewards fetched while the policy goes on generating."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

Rewards = list[float | None]
# A reward function of TRL: of prompts and completions, None where there is no reward.
RewardFunction = Callable[..., Rewards]


class RewardsAhead:
    """Asks ``reward`` in a thread for the rewards of a part of a batch as soon as it is generated.

    The answers are collected once the whole batch is there: what is left to wait for then is
    logged as ``reward_wait/seconds``, and ``reward_wait/share`` is its share of the time since the
    answers of the batch before were there, which is one step.
    """

    def __init__(self, reward: RewardFunction, now: Callable[[], float] = time.monotonic):
        self._reward, self._now = reward, now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rewards")
        self._asked: list[Future[Rewards]] = []
        self._since = now()

    def ask(self, prompts: Sequence[Any], completions: Sequence[Any]) -> None:
        call = self._thread.submit(self._reward, prompts=prompts, completions=completions)
        self._asked.append(call)

    def collect(self, prompts: Sequence[Any], log_metric: Any = None, **_: Any) -> Rewards:
        """The rewards of all that was asked, in order: the reward function that TRL is given.

        Raises what ``reward`` has raised.
        """
        began = self._now()
        asked, self._asked = self._asked, []
        found = [reward for call in asked for reward in call.result()]
        if len(found) != len(prompts):
            raise ValueError(f"{len(prompts)} completions, and {len(found)} rewards came back")
        ended = self._now()
        if log_metric is not None:
            log_metric("reward_wait/seconds", ended - began)
            log_metric("reward_wait/share", (ended - began) / max(ended - self._since, 1e-9))
        self._since = ended
        return found

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
