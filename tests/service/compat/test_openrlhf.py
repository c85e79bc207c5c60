"""OpenRLHF's own client, from its package, against a live server."""

import asyncio
import json
import math

import httpx2
import pytest
from trainer_clients import openrlhf_agent

QUERIES = [f"<|im_start|>user\nWhy {i}?<|im_end|>\n<|im_start|>assistant\nSo." for i in range(4)]


@pytest.fixture
def fetch(monkeypatch):
    """``fetch(urls, queries)``: the answers that its client gets for its lists."""
    agent = openrlhf_agent(monkeypatch)

    def call(urls, queries, labels=None):
        executor = agent.SingleTurnAgentExecutor(urls)
        prompts = ["p"] * len(queries)
        asked = executor._fetch_rewards_via_http(queries, prompts, labels or [None] * len(queries))
        return asyncio.run(asked)

    return call


def own(url: str, texts: list[str], **headers: str) -> list[float]:
    items = [{"text": text} for text in texts]
    answer = httpx2.post(f"{url}/score", json={"items": items}, headers=headers, timeout=30)
    return answer.json()["rewards"]


def test_its_client_gets_the_rewards_of_score(listen, fetch, tiny_checkpoint):
    with listen(models=[tiny_checkpoint]) as url:
        (whole,) = fetch(f"{url}/get_reward", QUERIES)
        shards = fetch([f"{url}/get_reward"] * 3, QUERIES)
        singles = fetch([f"{url}/get_reward"] * 2, QUERIES[:1])
        rewards = own(url, QUERIES)
    assert whole["rewards"] == rewards
    assert [reward for shard in shards for reward in shard["rewards"]] == rewards
    assert [answer["rewards"] for answer in singles] == [rewards[:1]]


def test_its_client_can_bring_a_key_in_the_path_or_before_the_host(listen, fetch, tiny_checkpoint):
    with listen(models=[tiny_checkpoint], api_keys="sesame") as url:
        (by_path,) = fetch(f"{url}/k/sesame/get_reward", QUERIES)
        (by_host,) = fetch(url.replace("//", "//run:sesame@") + "/get_reward", QUERIES)
        rewards = own(url, QUERIES, authorization="Bearer sesame")
    assert by_path["rewards"] == by_host["rewards"] == rewards


def test_what_its_client_makes_of_an_answer_is_numbers(listen, fetch, ensemble_file):
    """The trainer turns every list of extra_logs into a tensor, and joins those of all samples."""
    settings = {"models": [ensemble_file], "compat_on_error": "floor:-7.5"}
    with listen(**settings) as url:
        (good,) = fetch(f"{url}/get_reward", QUERIES[:1])
        (bad,) = fetch(f"{url}/get_reward", [""])
    assert good["extra_logs"].keys() == bad["extra_logs"].keys()
    for answer in (good, bad):
        for values in (answer["rewards"], answer["scores"], *answer["extra_logs"].values()):
            assert len(values) == 1
            assert all(isinstance(value, float) for value in values)
    assert (bad["rewards"], bad["extra_logs"]["filled"]) == ([-7.5], [1.0])
    assert good["extra_logs"]["filled"] == [0.0]
    assert good["extra_logs"]["variance"][0] > 0


async def test_a_reward_without_a_member_says_so_on_every_route(serve, leaky_file):
    """One member takes 150 tokens; the average of all, the centre, 200."""
    whole, without = "x" * 100, "x" * 160
    async with serve(models=[leaky_file], compat_model="leaky") as client:
        both = await client.post("/get_reward", json={"query": [whole, without]})
        one = await client.post("/get_reward", json={"query": [whole]})
        others = [
            await client.post("/slime", json={"prompt": "x", "response": without[1:]}),
            await client.post("/classify", json={"input": without}),
        ]
        own = await client.post("/ensemble_score", json={"items": [{"text": without}]})
    assert both.json()["extra_logs"]["degraded"] == [0.0, 1.0]
    assert one.json()["extra_logs"].keys() == both.json()["extra_logs"].keys()
    assert [one.headers["x-plaudit-degraded"] for one in (both, *others)] == ["1"] * 3
    assert "x-plaudit-degraded" not in one.headers
    assert others[0].json() == own.json()["rewards"][0] == both.json()["rewards"][1]


async def test_an_empty_response_is_no_reward_of_its_prompt(serve, tiny_checkpoint):
    body = {"query": ["Why?", "Why? So."], "prompts": ["Why?", "Why?"]}
    async with serve(models=[tiny_checkpoint]) as client:
        refused = await client.post("/get_reward", json=body)
        told = await client.post("/get_reward", json={"query": ["Why?"], "prompts": [""]})
    assert refused.status_code == 422
    assert refused.json()["error"].startswith("item 0: empty")
    assert told.status_code == 200  # of a query that is told to be all response


async def test_scores_are_rewards_brought_into_0_to_1(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], compat_on_error="floor:-2000") as client:
        answer = (await client.post("/get_reward", json={"query": [*QUERIES, ""]})).json()
    expected = [1 / (1 + math.exp(-reward)) for reward in answer["rewards"][:-1]]
    assert answer["scores"] == pytest.approx([*expected, 0.0])
    assert answer["rewards"][-1] == -2000


async def test_a_single_string_is_a_list_of_one(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        one = (await client.post("/get_reward", json={"query": QUERIES[0]})).json()
        listed = (await client.post("/get_reward", json={"query": QUERIES[:1]})).json()
    assert one == listed


@pytest.mark.parametrize("body", [b"{", b'{"query": 5}', b"{}", b'{"query": ["a", null]}', b"[]"])
async def test_a_body_of_another_shape_is_not_accepted(serve, tiny_checkpoint, body):
    async with serve(models=[tiny_checkpoint]) as client:
        response = await client.post("/get_reward", content=body)
    assert response.status_code == 422
    assert response.json()["type"] == "malformed"
    assert json.loads(response.content).keys() == {"error", "type"}


async def test_what_a_body_should_have_been_is_said(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        response = await client.post("/get_reward", json={"query": 5})
    assert response.json()["error"] == "Expected `str | array`, got `int` - at `$.query`"
