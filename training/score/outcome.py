"""What scoring one response comes to, in this process or by a service. Letters: M members."""

from msgspec import Struct

from plaudit.checkpoint import Message
from plaudit.wire import ItemError

Asked = tuple[list[Message], str]


class Outcome(Struct, frozen=True, omit_defaults=True):
    """The reward with the raw score of one model, or those (M,) of an ensemble's members, and its
    centre's; or an error. ``failed``: members that a reward is without, and why, null in
    ``member_scores``. ``truncated`` counts tokens that were cut."""

    reward: float | None
    score: float | None = None
    member_scores: list[float | None] | None = None
    centre_score: float | None = None
    failed: dict[str, ItemError] | None = None
    truncated: int = 0
    error: ItemError | None = None


class Scorer(Struct, frozen=True):
    """What scored, and of which revision."""

    model: str
    revision: str
