"""Which replica a request goes to: at random, to the least loaded, or by its prompt.

``by_prompt`` is the ranking of the Python client (``plaudit.client.replicas``), so what is
simulated is what callers do. ``bounded`` is a gateway's consistent hashing with bounded loads
(Mirrokni, Thorup and Zadimoghaddam, arXiv:1608.01350): a replica with more than its part of the
load hands the prompt to the next in rank; Envoy's ``hash_balance_factor`` does this.
"""

import random
from collections.abc import Callable, Sequence

from fleet_replica import Replica, Request

from plaudit.client.replicas import Replicas

BOUND = 1.25

Route = Callable[[Request, Sequence[Replica]], Replica]


def at_random(seed: int) -> Route:
    spread = random.Random(seed)
    return lambda request, replicas: spread.choice(replicas)


def least_loaded(request: Request, replicas: Sequence[Replica]) -> Replica:
    """By tokens in the house, known at once to the one balancer."""
    return min(replicas, key=lambda replica: replica.load)


class Ranking:
    """Replicas in the client's order for a prompt; ranked once for each prompt and fleet."""

    def __init__(self) -> None:
        self._ranked: dict[tuple[int, int], list[int]] = {}

    def of(self, request: Request, replicas: Sequence[Replica]) -> list[Replica]:
        key = request.sequences[0].prompt, len(replicas)
        if key not in self._ranked:
            urls = tuple(f"http://plaudit-{number}:8000" for number in range(len(replicas)))
            order = Replicas(urls, lambda: 0.0).route(key[0])
            self._ranked[key] = [urls.index(url) for url in order]
        return [replicas[place] for place in self._ranked[key]]


def by_prompt() -> Route:
    ranking = Ranking()
    return lambda request, replicas: ranking.of(request, replicas)[0]


def bounded() -> Route:
    ranking = Ranking()

    def pick(request: Request, replicas: Sequence[Replica]) -> Replica:
        whole = sum(replica.load for replica in replicas) + request.tokens
        most = BOUND * whole / len(replicas)
        ranked = ranking.of(request, replicas)
        fitting = (one for one in ranked if one.load + request.tokens <= most)
        return next(fitting, min(ranked, key=lambda replica: replica.load))

    return pick


def routes() -> dict[str, Route]:
    return {
        "at random": at_random(0),
        "least loaded": least_loaded,
        "by prompt": by_prompt(),
        "by prompt, bounded": bounded(),
    }
