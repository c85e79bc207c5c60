"""How far a whole plan is: one bar over the steps of all its members."""

from collections.abc import Sequence

from tqdm import tqdm

from training.outcome import Outcome


class PlanBar:
    """Members done, steps done of all, and the time left at the speed since the bar was made."""

    def __init__(self, members: int, hidden: bool = False):
        self._members = members
        self._bar = tqdm(desc=self._said(0), unit="step", dynamic_ncols=True, disable=hidden)

    def _said(self, complete: int) -> str:
        return f"{complete} of {self._members} members"

    def show(self, outcomes: Sequence[Outcome | None]) -> None:
        found = [outcome for outcome in outcomes if outcome is not None]
        done, total = steps(found, self._members)
        if self._bar.total is None and total is not None:
            # What earlier runs have done took none of this one's time.
            self._bar.initial, self._bar.total = done, total
            self._bar.n = done
        said = self._said(sum(outcome.state == "complete" for outcome in found))
        self._bar.set_description_str(said, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


def steps(outcomes: Sequence[Outcome], members: int) -> tuple[int, int | None]:
    """Steps done of all members and steps in all; None before any member knows. Members have the
    same pairs and batches, and so as many steps as the one that knows."""
    known = [outcome.of for outcome in outcomes if outcome.of is not None]
    return sum(outcome.steps for outcome in outcomes), members * max(known) if known else None
