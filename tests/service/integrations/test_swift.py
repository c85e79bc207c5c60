"""ms-swift's calls of a reward function."""

import pytest

from plaudit import ItemsFailed
from plaudit.integrations.swift import Reward
from plaudit.testing import FakeServer
from plaudit.wire import Item, ItemError


def rule(item: Item) -> float | ItemError:
    turns = item.messages or []
    return ItemError("too-long", "many") if turns[-1].content == "bad" else float(len(turns))


def test_conversations_are_scored_whole_and_a_failure_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = ["good", "bad"]
    rows = [
        [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": text, "loss": None}]
        for text in answers
    ]
    columns = {"trainer_state": None, "request_id": ["1", "2"], "is_truncated": [False, False]}
    with FakeServer(rule) as server:
        monkeypatch.setenv("PLAUDIT_CLIENT_URL", server.url)
        assert Reward(args=None)(answers, messages=rows, **columns) == [2.0, None]
        monkeypatch.setenv("PLAUDIT_CLIENT_FAILED", "raise")
        with pytest.raises(ItemsFailed, match="too-long"):
            Reward(args=None)(answers, messages=rows, **columns)
