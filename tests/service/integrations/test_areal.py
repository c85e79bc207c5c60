"""AReaL's calls of a reward function: in a pool of processes, with positional texts and ids."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import pytest

from plaudit import DeadlineExceeded, ItemsFailed, RewardClient
from plaudit.integrations.areal import (
    ANSWER_SECONDS,
    AREAL_TIMEOUT_SECONDS,
    async_reward_fn,
    reward_fn,
)
from plaudit.integrations.source import close_async
from plaudit.testing import FakeServer
from plaudit.wire import Item, ItemError

MESSAGES = [{"role": "user", "content": "Why?"}]
TEMPLATED = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


def rule(item: Item) -> float | ItemError:
    return ItemError("too-long", "many") if item.response == "bad" else len(item.response or "")


def called(completion: str, function: Any = reward_fn, **columns: Any) -> Any:
    """As RLVRWorkflow._compute_rewards calls (AReaL 1.0.4)."""
    columns = {"messages": MESSAGES, "answer": "8"} | columns
    return partial(function, TEMPLATED, completion, [1, 2], [3, 4], **columns)


def test_the_reward_is_the_services_in_a_process_of_a_pool(
    listen: Any, tiny_checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listen(models=[tiny_checkpoint]) as url:
        monkeypatch.setenv("PLAUDIT_CLIENT_URL", url)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found = list(map(lambda f: f.result(), [pool.submit(called(t)) for t in ("A", "B.")]))
        with RewardClient(url) as client:
            expected = client.score([("Why?", "A"), ("Why?", "B.")]).rewards
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    with FakeServer(rule) as server:
        monkeypatch.setenv("PLAUDIT_CLIENT_URL", server.url)
        yield server


def test_the_policys_template_is_neither_in_the_prompt_nor_at_the_end(server: FakeServer) -> None:
    assert called("abc<|im_end|>")() == 3.0
    assert b"im_" not in server.requests[0].body


def test_the_prompt_may_stand_in_another_column(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAUDIT_CLIENT_PROMPT_KEY", "question")
    assert called("abc", question="Why?")() == 3.0
    with pytest.raises(ValueError, match="no column 'question'"):
        called("abc")()
    with pytest.raises(ValueError, match="nothing in it in this row"):
        called("abc", question=None)()


def test_a_failure_raises_or_is_the_chosen_number(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ItemsFailed, match="too-long"):
        called("bad")()
    monkeypatch.setenv("PLAUDIT_CLIENT_FAILED", "-1.5")
    assert called("bad")() == -1.5
    monkeypatch.setenv("PLAUDIT_CLIENT_FAILED", "none")
    with pytest.raises(ValueError, match="areal has no reward None"):
        called("bad")()


def test_a_slow_service_raises_before_areal_takes_zero(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ANSWER_SECONDS < AREAL_TIMEOUT_SECONDS
    monkeypatch.setenv("PLAUDIT_CLIENT_TIMEOUT_SECONDS", "0.05")
    with server.held(), pytest.raises(DeadlineExceeded):
        called("abc")()


def test_in_the_workflows_loop_no_reward_waits_for_a_worker(server: FakeServer) -> None:
    async def at_once(*texts: str) -> list[float]:
        try:
            return await asyncio.gather(*(called(text, async_reward_fn)() for text in texts))
        finally:
            await close_async()

    texts = ["a" * count for count in range(1, 65)]
    server.refuse(times=30, retry_after_seconds=0.001)
    assert asyncio.run(at_once(*texts)) == [float(len(text)) for text in texts]
    with pytest.raises(ItemsFailed, match="too-long"):
        asyncio.run(at_once("bad"))


def test_areals_own_wrapper(server: FakeServer) -> None:
    api = pytest.importorskip("areal.api.reward_api")
    assert api.AsyncRewardWrapper(reward_fn).timeout_seconds == AREAL_TIMEOUT_SECONDS
    wrapped = api.AsyncRewardWrapper(reward_fn, max_workers=1, max_retries=0)
    columns = {"messages": MESSAGES, "answer": "8"}
    assert asyncio.run(wrapped(TEMPLATED, "abc", [1], [2], **columns)) == 3.0
    with pytest.raises(ItemsFailed, match="too-long"):
        asyncio.run(wrapped(TEMPLATED, "bad", [1], [2], **columns))
    api.AsyncRewardWrapper._atexit_shutdown_all()
