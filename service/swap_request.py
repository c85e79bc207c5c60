"""What ``POST /admin/swap`` is asked, and what it answers."""

from msgspec import Struct


class SwapRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``model`` is a loaded model's name, ``checkpoint`` that of a directory in the model root."""

    model: str
    checkpoint: str


class SwapAnswer(Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """Revisions before and after; ``seconds`` from the request to the switch."""

    model: str
    before: str
    after: str
    seconds: float
