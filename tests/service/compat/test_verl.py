"""verl's own reward loop, from its package, against a live server."""

import asyncio
from types import SimpleNamespace

import httpx2
import pytest
import torch
from trainer_clients import verl_reward_loop
from transformers import AutoTokenizer

CHAT = [{"role": "user", "content": "What is 2 + 2?"}]
RESPONSES = ["4", "About five, I think.", "Ünïcode, and so: 漢"]


class Data(list):
    """As much of verl's DataProto as the loop uses: a list of samples, cut into lists."""

    def __getitem__(self, key):
        one = super().__getitem__(key)
        return Data(one) if isinstance(key, slice) else one


def sample(tokenizer, response: str) -> SimpleNamespace:
    """A rollout: its response ends with EOS and padding, as the trainer's do."""
    ids = tokenizer(response + tokenizer.eos_token, add_special_tokens=False).input_ids
    padded = torch.tensor(ids + [tokenizer.pad_token_id] * 3)
    mask = torch.tensor([1] * (5 + len(ids)) + [0] * 3)
    return SimpleNamespace(
        batch={"responses": padded, "attention_mask": mask}, non_tensor_batch={"raw_prompt": CHAT}
    )


@pytest.fixture
def reward_loop(monkeypatch):
    return verl_reward_loop(monkeypatch)


@pytest.fixture
def rewards(reward_loop, bos_checkpoint):
    """``rewards(url, engine, responses)``: what the loop makes of rollouts."""
    tokenizer = AutoTokenizer.from_pretrained(bos_checkpoint)

    def compute(url: str, engine: str, responses: list[str]) -> list[float]:
        rollout = SimpleNamespace(name=engine)
        model = SimpleNamespace(model_path=str(bos_checkpoint), rollout=rollout, enable=True)
        custom = SimpleNamespace(path=None)
        reward = SimpleNamespace(reward_model=model, custom_reward_function=custom)
        worker = object.__new__(reward_loop.RewardLoopWorker)  # its __init__ wants a cluster
        worker.config = SimpleNamespace(reward=reward)
        worker.reward_router_address = url.removeprefix("http://")
        worker.input_tokenizer = worker.reward_model_tokenizer = tokenizer
        data = Data(sample(tokenizer, response) for response in responses)
        return [one["reward_score"] for one in asyncio.run(worker.compute_score_batch(data))]

    return compute


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_its_reward_loop_gets_the_scores_of_score(listen, rewards, bos_checkpoint, engine):
    """It takes the BOS of the template away and leaves it to the server to put it back."""
    items = [{"prompt": CHAT, "response": response} for response in RESPONSES]
    with listen(models=[bos_checkpoint]) as url:
        found = rewards(url, engine, RESPONSES)
        answer = httpx2.post(f"{url}/score", json={"items": items}, timeout=30).json()
    assert found == [item["score"] for item in answer["items"]]


@pytest.mark.parametrize("address", ["{host}/k/sesame", "run:sesame@{host}"])
def test_its_key_may_stand_in_the_address(listen, rewards, bos_checkpoint, address):
    with listen(models=[bos_checkpoint], api_keys="sesame") as url:
        host = url.removeprefix("http://")
        assert len(rewards(address.format(host=host), "vllm", RESPONSES)) == len(RESPONSES)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_it_does_not_ask_again_for_what_is_too_long(
    listen, reward_loop, rewards, bos_checkpoint, metrics, engine
):
    aiohttp = pytest.importorskip("aiohttp")
    with listen(models=[bos_checkpoint]) as url, pytest.raises(aiohttp.ClientResponseError) as e:
        rewards(url, engine, ["x" * 600])
    assert e.value.status == 400
    route = "/classify" if engine == "vllm" else "/v1/embeddings"
    labels = {"route": route, "method": "POST", "code": "400"}
    assert metrics.registry.get_sample_value("plaudit_http_requests_total", labels) == 1


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_floor_is_a_number_to_it(listen, rewards, bos_checkpoint, engine):
    with listen(models=[bos_checkpoint], compat_on_error=f"{engine}=floor:-9.5") as url:
        short, long = rewards(url, engine, ["x", "x" * 600])
    assert long == -9.5 != short
