"""ms-swift's calls of a reward function."""

import pytest

from plaudit import ItemsFailed
from plaudit.integrations.swift import Reward
from plaudit.testing import FakeServer
from plaudit.wire import Item, ItemError


def rule(item: Item) -> float | ItemError:
    turns = item.messages or []
    return ItemError("too-long", "many") if turns[-1].content == "bad" else float(len(turns))


def test_conversations_are_scored_whole_and_a_failure_is_never_summed_to_zero(
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
        assert Reward(args=None)(answers[:1], messages=rows[:1], **columns) == [2.0]
        with pytest.raises(ItemsFailed, match="too-long"):
            Reward(args=None)(answers, messages=rows, **columns)
        monkeypatch.setenv("PLAUDIT_CLIENT_FAILED", "-3")
        assert Reward(args=None)(answers, messages=rows, **columns) == [2.0, -3.0]
        monkeypatch.setenv("PLAUDIT_CLIENT_FAILED", "none")
        with pytest.raises(ValueError, match="swift has no reward None"):
            Reward(args=None)
