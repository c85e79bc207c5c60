"""What another server's wire format is to the rest of the service."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import FastAPI

from service.compat.exchange import Exchange
from service.compat.on_error import PeerName
from service.routes import Route

# Of the one number, where a format has a place for it: what checkpoints have in ``id2label``.
LABEL = "reward"


@dataclass(frozen=True)
class Peer:
    """A format: its ``routes``, which say how they refuse, and ``add``, which answers them."""

    name: PeerName
    routes: tuple[Route, ...]
    add: Callable[[FastAPI, Exchange], None]
