"""Where an adapter gets its rewards: from the options of a trainer's configuration, or else from
variables ``PLAUDIT_CLIENT_…``, for trainers that pass none on.

The server refuses to start with a ``PLAUDIT_`` variable that is none of its settings, lest a
mistyped one, PLAUDIT_API_KEY for PLAUDIT_API_KEYS, leaves it open. So the adapters' have a prefix
of their own, which it passes over.
"""

import atexit
import difflib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from math import isfinite
from typing import Any, TypedDict

import msgspec

from plaudit.client import AsyncRewardClient, RewardClient
from plaudit.client.batches import ItemLike
from plaudit.client.scores import EnsembleScores, Scores
from plaudit.integrations.failures import NOTIONS, OF_SOME, OnFailure, Trainer
from plaudit.wire import Aggregate, Truncation

PREFIX = "PLAUDIT_CLIENT_"
# What policies end their turn with. Trainers that decode special tokens leave it in the response.
STOPS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>",
    "<end_of_turn>", "<｜end▁of▁sentence｜>", "</s>",
)  # fmt: skip


class Options(TypedDict, total=False):
    """What a trainer's configuration may say; each is a variable ``PLAUDIT_CLIENT_…`` too.

    ``url``: one, or several replicas (in the variable: with commas). ``ensemble``, ``aggregate`` or
    ``coefficient`` ask an ensemble, else ``model`` is asked. ``failed``: what stands for an item
    without a reward. ``prompt_key``: where the trainer's row has the prompt. ``stop``: what is cut
    from the end of a response. ``timeout_seconds``: for one call, retries included.
    """

    url: str | Sequence[str]
    api_key: str
    model: str
    ensemble: str
    aggregate: Aggregate
    coefficient: float
    revision: str
    truncation: Truncation
    timeout_seconds: float
    failed: OnFailure
    prompt_key: str
    stop: Sequence[str]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options as they are used; equal ones share their connections."""

    url: tuple[str, ...]
    trainer: Trainer
    failed: OnFailure
    api_key: str | None = None
    model: str | None = None
    ensemble: str | None = None
    aggregate: Aggregate | None = None
    coefficient: float | None = None
    revision: str | None = None
    truncation: Truncation = "error"
    timeout_seconds: float = 600.0
    prompt_key: str | None = None
    stop: tuple[str, ...] = STOPS

    def __post_init__(self) -> None:
        if self.failed == "none" and not NOTIONS[self.trainer].none:
            raise ValueError(
                f"failed: {self.trainer} has no reward None; use raise, or a number of your choice"
            )
        if isinstance(self.failed, float) and not isfinite(self.failed):
            raise ValueError(f"failed: {self.failed} is no number to train on; choose a finite one")
        if self.model is not None and self.of_ensemble:
            raise ValueError("model, and an ensemble or its aggregate, are given: leave one out")

    @property
    def of_ensemble(self) -> bool:
        return not (self.ensemble is None and self.aggregate is None and self.coefficient is None)

    def __repr__(self) -> str:
        return f"Source({self.trainer} from {', '.join(self.url)})"


def source_of(
    trainer: Trainer,
    options: Mapping[str, object],
    environ: Mapping[str, str] = os.environ,
    **defaults: object,
) -> Source:
    """``options``, else the environment, else ``defaults``. Raises ValueError, naming the odd."""
    given = {name: value for name, value in options.items() if value is not None}
    said = _from_environment(environ) | given
    _check_read(trainer, said)
    whole: dict[str, Any] = {
        "trainer": trainer,
        "failed": NOTIONS[trainer].default,
        **defaults,
        **said,
    }
    if "url" not in whole:
        raise ValueError(f"no url: give url=, or set {PREFIX}URL=http://HOST:8000")
    for several in {"url", "stop"} & whole.keys():
        value = whole[several]
        whole[several] = tuple(filter(None, value.split(",")) if isinstance(value, str) else value)
    try:
        return msgspec.convert(whole, Source, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"options of plaudit for {trainer}: {error}") from None


def _check_read(trainer: Trainer, said: Collection[str]) -> None:
    """Raises ValueError for an option that would do nothing."""
    reads = NOTIONS[trainer].reads
    for name in OF_SOME:
        if name in said and name not in reads:
            raise ValueError(
                f"{name}, or {PREFIX}{name.upper()}: {trainer} does not read it; "
                f"of {' and '.join(OF_SOME)} it reads {' '.join(reads) or 'neither'}: leave it out"
            )


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    known = {PREFIX + name.upper(): name for name in Options.__annotations__}
    found = {}
    for name in sorted(environ):
        if name.startswith(PREFIX):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}"
                raise ValueError(f"unknown environment variable {name}; {hint}")
            found[known[name]] = environ[name]
    return found


# Retries end with the time, not with a count: a restart costs waiting, and not the run.
PATIENCE = sys.maxsize
ASYNC_CLIENTS: dict[Source, AsyncRewardClient] = {}


@cache
def client_of(source: Source) -> RewardClient:
    """One for all calls of a process with these options, closed at its end."""
    client = RewardClient(**_options(source))
    atexit.register(client.close)
    return client


def async_client_of(source: Source) -> AsyncRewardClient:
    """As ``client_of``; its connections are those of the running loop."""
    if source not in ASYNC_CLIENTS:
        ASYNC_CLIENTS[source] = AsyncRewardClient(**_options(source))
    return ASYNC_CLIENTS[source]


def _options(source: Source) -> dict[str, Any]:
    return {
        "base_url": source.url,
        "api_key": source.api_key,
        "model": source.model,
        "revision": source.revision,
        "timeout_seconds": source.timeout_seconds,
        "max_retries": PATIENCE,
        "retry_faults": True,
    }


async def close_async() -> None:
    """Close the connections of the running loop, which else end with the process. For those who end
    a loop and go on."""
    for client in ASYNC_CLIENTS.values():
        await client.close()


def ask(source: Source, items: Sequence[ItemLike]) -> Scores | EnsembleScores:
    """Raises as ``RewardClient.score``."""
    client = client_of(source)
    if not source.of_ensemble:
        return client.score(items, truncation=source.truncation)
    return client.ensemble_score(items, **_of_ensemble(source))


async def ask_async(source: Source, items: Sequence[ItemLike]) -> Scores | EnsembleScores:
    """As ``ask``."""
    client = async_client_of(source)
    if not source.of_ensemble:
        return await client.score(items, truncation=source.truncation)
    return await client.ensemble_score(items, **_of_ensemble(source))


def _of_ensemble(source: Source) -> dict[str, Any]:
    return {
        "ensemble": source.ensemble,
        "aggregate": source.aggregate,
        "coefficient": source.coefficient,
        "truncation": source.truncation,
    }


def without_stop(source: Source, response: str) -> str:
    """``response`` without the end of turn of the policy, which the reward model's template has."""
    bare = response.rstrip()
    for stop in source.stop:
        if bare.endswith(stop):
            return bare.removesuffix(stop)
    return response
