"""Rewards fetched while the policy goes on generating."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from plaudit.integrations.wait_share import WaitShare

WAIT_SHARE = "plaudit/wait_share"
LogMetric = Callable[[str, float], None]
Notes = list[tuple[str, float]]


class RewardFunction(Protocol):
    """As TRL calls it: a reward for each completion, None where there is none."""

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], log_metric: LogMetric | None
    ) -> list[float | None]: ...


class RewardsAhead:
    """Asks ``reward`` in a thread for the rewards of a part of a batch as soon as it is generated,
    and collects them once the whole batch is there.

    What is left to wait for then is all that a step loses: its share of the step is logged in the
    place of the share that ``reward`` itself would log.
    """

    def __init__(self, reward: RewardFunction):
        self._reward, self._wait = reward, WaitShare()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rewards")
        self._asked: list[Future[tuple[list[float | None], Notes]]] = []
        # What TRL calls the reward in its metrics.
        self.__name__ = getattr(reward, "__name__", "reward")

    def ask(self, prompts: Sequence[Any], completions: Sequence[Any]) -> None:
        self._asked.append(self._thread.submit(self._rewards, prompts, completions))

    def __call__(self, log_metric: LogMetric, **_: Any) -> list[float | None]:
        """The rewards of all that was asked, in order: the reward function that TRL is given.

        Raises what ``reward`` has raised.
        """
        self._wait.ask()
        asked, self._asked = self._asked, []
        answers = [one.result() for one in asked]
        log_metric(WAIT_SHARE, self._wait.answer())
        for name, value in (note for _, notes in answers for note in notes):
            if name != WAIT_SHARE:
                log_metric(name, value)
        return [reward for rewards, _ in answers for reward in rewards]

    def _rewards(
        self, prompts: Sequence[Any], completions: Sequence[Any]
    ) -> tuple[list[float | None], Notes]:
        """With what was noted of them, for the trainer's own thread to log."""
        notes: Notes = []
        rewards = self._reward(
            prompts, completions, log_metric=lambda name, value: notes.append((name, value))
        )
        return rewards, notes
