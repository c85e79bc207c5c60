"""slime's and miles's calls of a custom reward function, on samples with their fields."""

import asyncio
from argparse import Namespace
from dataclasses import dataclass, field
from typing import Any

import pytest

from plaudit import ItemsFailed, RewardClient
from plaudit.integrations.slime import custom_rm, drop_failed
from plaudit.integrations.source import close_async
from plaudit.testing import FakeServer
from plaudit.wire import Item, ItemError


@dataclass
class Sample:
    """The fields of slime/utils/types.py that a reward function reads, with their defaults."""

    prompt: str | list[dict[str, str]] = ""
    response: str = ""
    label: str | None = None
    reward: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def get_reward_value(self, args: Namespace) -> Any:
        return self.reward if not args.reward_key else self.reward[args.reward_key]


PATH = "plaudit.integrations.slime.custom_rm"
ARGS = Namespace(reward_key=None, apply_chat_template=False, custom_rm_path=PATH, rm_type=None)
KEYED = Namespace(**vars(ARGS) | {"reward_key": "score"})
TEMPLATED = Namespace(**vars(ARGS) | {"apply_chat_template": True})
TURN = {"role": "user", "content": "Why?"}


def rule(item: Item) -> float | ItemError:
    return ItemError("too-long", "many") if item.response == "bad" else len(item.response or "")


def at_once(function: Any, *given: Any) -> Any:
    """In a loop of its own, as trainers have one for all calls."""

    async def call() -> Any:
        try:
            return await function(*given)
        finally:
            await close_async()

    return asyncio.run(call())


def score(args: Namespace, sample: Any) -> Any:
    return at_once(custom_rm, args, sample)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    with FakeServer(rule) as server:
        monkeypatch.setenv("PLAUDIT_CLIENT_URL", server.url)
        yield server


def test_a_sample_and_a_group_get_the_services_rewards(
    listen: Any, tiny_checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = [Sample([TURN], text) for text in ("Because.", "So what?")]
    with listen(models=[tiny_checkpoint]) as url:
        monkeypatch.setenv("PLAUDIT_CLIENT_URL", url)
        with RewardClient(url) as client:
            expected = client.score([("Why?", one.response) for one in group]).rewards
        assert score(ARGS, group) == pytest.approx(expected, abs=1e-6)
        assert score(ARGS, group[1]) == pytest.approx(expected[1], abs=1e-6)


def test_with_a_reward_key_it_is_a_dict(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score(KEYED, Sample("p", "abc")) == {"score": 3.0}
    monkeypatch.setenv("PLAUDIT_CLIENT_AGGREGATE", "lcb")
    monkeypatch.setenv("PLAUDIT_CLIENT_COEFFICIENT", "2")
    [found] = score(KEYED, [Sample("p", "abc")])
    spread = 0.5**0.5  # of members half above and half below
    assert found == {"score": pytest.approx(3 - 2 * spread), "plaudit_disagreement": spread}


def test_the_key_of_evaluation_is_there_too(server: FakeServer) -> None:
    both = Namespace(**vars(KEYED) | {"eval_reward_key": "acc"})
    assert score(both, [Sample("p", "abc")]) == [{"score": 3.0, "acc": 3.0}]
    same = Namespace(**vars(KEYED) | {"eval_reward_key": "score"})
    assert score(same, Sample("p", "abc")) == {"score": 3.0}
    none = Namespace(**vars(ARGS) | {"eval_reward_key": None})
    assert score(none, Sample("p", "abc")) == 3.0
    alone = Namespace(**vars(ARGS) | {"eval_reward_key": "acc"})
    with pytest.raises(ValueError, match="give --reward-key too"):
        score(alone, Sample("p", "abc"))


@pytest.mark.parametrize("end", ["<|im_end|>", "<|im_end|>\n", "</s>", ""])
def test_the_policys_end_of_turn_is_not_judged(server: FakeServer, end: str) -> None:
    assert score(ARGS, Sample("p", "abc" + end)) == 3.0


def test_a_failure_raises_or_is_the_chosen_number(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ItemsFailed, match="too-long"):
        score(ARGS, Sample("p", "bad"))
    monkeypatch.setenv("PLAUDIT_CLIENT_FAILED", "-4")
    assert score(ARGS, [Sample("p", "abc"), Sample("p", "bad")]) == [3.0, -4.0]


@pytest.mark.parametrize("args", [ARGS, KEYED])
def test_groups_with_a_failure_can_be_dropped(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, args: Namespace
) -> None:
    monkeypatch.setenv("PLAUDIT_CLIENT_FAILED", "none")
    kept = []
    for texts in (["a", "ab"], ["a", "bad"]):
        group = [Sample("p", text) for text in texts]
        for one, reward in zip(group, score(args, group), strict=True):
            one.reward = reward
        kept += [drop_failed(args, group), drop_failed(args, [group])]  # plain and fanned out
    assert kept == [True, True, False, False]


def test_a_prompt_in_the_policys_template_is_refused_or_taken_from_the_metadata(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = Sample("<|im_start|>user\nWhy?", "abc", metadata={"messages": [TURN]})
    with pytest.raises(ValueError, match="PLAUDIT_CLIENT_PROMPT_KEY"):
        score(TEMPLATED, sample)
    monkeypatch.setenv("PLAUDIT_CLIENT_PROMPT_KEY", "messages")
    assert score(TEMPLATED, sample) == 3.0
    assert b"im_start" not in server.requests[-1].body
    for metadata in ({}, {"messages": None}):
        with pytest.raises(ValueError, match="metadata has no 'messages'"):
            score(TEMPLATED, Sample("Why?", "abc", metadata=metadata))


def test_miless_own_loader_and_sample(server: FakeServer) -> None:
    rm_hub = pytest.importorskip("miles.rollout.rm_hub")
    from miles.utils.types import Sample as Theirs

    samples = [Theirs(prompt=[TURN], response=text) for text in ("a", "abc")]
    assert at_once(rm_hub.async_rm, ARGS, samples[1]) == 3.0
    assert at_once(rm_hub.batched_async_rm, ARGS, samples) == [1.0, 3.0]
