"""What a row of any shape comes to: responses to one prompt, and which is better than which."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from plaudit.checkpoint import Message
from training.data.columns import RowError


class Comparison(NamedTuple):
    """Places of two responses of a group, the first judged better."""

    chosen: int
    rejected: int
    soft_label: float = 1.0
    target_margin: float = 0.0

    def likelier_first(self) -> "Comparison":
        """The same for training, and what is called right is the likelier: the loss of a pair is
        that of its sides swapped with ``1 - soft_label`` and ``-target_margin``."""
        if self.soft_label >= 0.5:
            return self
        return Comparison(self.rejected, self.chosen, 1 - self.soft_label, -self.target_margin)


@dataclass(frozen=True, slots=True)
class Group:
    """``finished`` says of each response whether it ended by itself, None that nothing is known.
    ``line`` is where the row stands in its file, ``rest`` holds its other columns."""

    prompt: Sequence[Message]
    responses: Sequence[str]
    comparisons: Sequence[Comparison]
    category: str | None = None
    finished: Sequence[bool] | None = None
    line: int = 0
    rest: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def check(self, comparison: Comparison) -> None:
        """Refuse what a model cannot tell apart, or has nothing to read of."""
        chosen, rejected = (self.responses[place] for place in comparison[:2])
        if not chosen.strip() or not rejected.strip():
            raise RowError("an empty response")
        if chosen == rejected:
            raise RowError("chosen equals rejected")


def all_against_all(
    prompt: Sequence[Message], chosen: Sequence[str], rejected: Sequence[str]
) -> Group:
    """The chosen responses, then the rejected; each of the first beats each of the second."""
    count = len(chosen)
    comparisons = [
        Comparison(winner, count + loser)
        for winner in range(count)
        for loser in range(len(rejected))
    ]
    return Group(prompt, [*chosen, *rejected], comparisons)
