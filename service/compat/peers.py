"""All the wire formats that are spoken, and their routes."""

from fastapi import FastAPI

from service.compat import (
    cohere,
    discovery,
    openrlhf,
    sglang,
    shared_paths,
    slime,
    tei,
    triton,
    vllm,
)
from service.compat.exchange import Exchange

PEERS = (
    openrlhf.PEER,
    slime.PEER,
    triton.PEER,
    vllm.PEER,
    sglang.PEER,
    tei.PEER,
    cohere.PEER,
)
ROUTES = (
    *(route for peer in PEERS for route in peer.routes),
    *shared_paths.ROUTES,
    *discovery.ROUTES,
)


def add(app: FastAPI, exchange: Exchange) -> None:
    for peer in PEERS:
        peer.add(app, exchange)
    shared_paths.add(app, exchange)
    discovery.add(app, exchange)
