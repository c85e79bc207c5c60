"""Rewards for online RLHF: the client of the Plaudit service, and what its two programs share.

``import plaudit`` loads nothing else; each public name loads its module when it is first used, so
that a server pays nothing for the client and a rollout worker nothing for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plaudit.client import AsyncRewardClient, RewardClient
    from plaudit.errors import (
        DeadlineExceeded,
        ItemsFailed,
        PlauditError,
        ProblemError,
        RevisionChanged,
        UnexpectedAnswer,
        Unreachable,
    )
    from plaudit.scores import EnsembleScores, Scores
    from plaudit.wire import Group, Item, Message

__all__ = [
    "AsyncRewardClient",
    "DeadlineExceeded",
    "EnsembleScores",
    "Group",
    "Item",
    "ItemsFailed",
    "Message",
    "PlauditError",
    "ProblemError",
    "RevisionChanged",
    "RewardClient",
    "Scores",
    "UnexpectedAnswer",
    "Unreachable",
]

_HOMES = {
    "client": ("AsyncRewardClient", "RewardClient"),
    "errors": (
        "DeadlineExceeded",
        "ItemsFailed",
        "PlauditError",
        "ProblemError",
        "RevisionChanged",
        "UnexpectedAnswer",
        "Unreachable",
    ),
    "scores": ("EnsembleScores", "Scores"),
    "wire": ("Group", "Item", "Message"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"plaudit.{module}"), name)
    raise AttributeError(f"module 'plaudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
