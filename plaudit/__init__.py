"""Rewards for online RLHF: the client of the Plaudit service, and what its two programs share.

``import plaudit`` loads nothing else; each public name loads its module when it is first used, so
that a server pays nothing for the client and a rollout worker nothing for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from plaudit.client import AsyncRewardClient as AsyncRewardClient
    from plaudit.client import RewardClient as RewardClient
    from plaudit.client.errors import DeadlineExceeded as DeadlineExceeded
    from plaudit.client.errors import ItemsFailed as ItemsFailed
    from plaudit.client.errors import PlauditError as PlauditError
    from plaudit.client.errors import ProblemError as ProblemError
    from plaudit.client.errors import RevisionChanged as RevisionChanged
    from plaudit.client.errors import UnexpectedAnswer as UnexpectedAnswer
    from plaudit.client.errors import Unreachable as Unreachable
    from plaudit.client.scores import EnsembleScores as EnsembleScores
    from plaudit.client.scores import Scores as Scores
    from plaudit.wire import Group as Group
    from plaudit.wire import Item as Item
    from plaudit.wire import Message as Message

HOMES = {
    "plaudit.client": ("AsyncRewardClient", "RewardClient"),
    "plaudit.client.errors": (
        "DeadlineExceeded",
        "ItemsFailed",
        "PlauditError",
        "ProblemError",
        "RevisionChanged",
        "UnexpectedAnswer",
        "Unreachable",
    ),
    "plaudit.client.scores": ("EnsembleScores", "Scores"),
    "plaudit.wire": ("Group", "Item", "Message"),
}


def __getattr__(name: str) -> object:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'plaudit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *(name for names in HOMES.values() for name in names)])
