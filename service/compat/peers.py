"""All the wire formats that are spoken, and their routes."""

from fastapi import FastAPI

from service.compat import openrlhf, slime, triton
from service.compat.exchange import Exchange

PEERS = (openrlhf.PEER, slime.PEER, triton.PEER)
ROUTES = tuple(route for peer in PEERS for route in peer.routes)


def add(app: FastAPI, exchange: Exchange) -> None:
    for peer in PEERS:
        peer.add(app, exchange)
