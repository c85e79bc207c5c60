"""A model whose rewards depend on the response's length, asked by formats that tell it or not."""

import pytest

from plaudit.calibration import Calibration

PROMPT = "<|im_start|>user\nWhy?<|im_end|><|im_start|>assistant\n"  # as the tiny template has it
RESPONSE = "Because of reason 7."
TEXT = PROMPT + RESPONSE + "<|im_end|>"


@pytest.fixture
def curved(tmp_path, copy_with, tiny_checkpoint):
    curve = Calibration("length", mean=0.5, std=2.0, curve=((1.0, -40.0), (50.0, 40.0)))
    return copy_with(tiny_checkpoint, tmp_path / "curved", calibration=curve)


@pytest.fixture
def ask(serve, curved):
    async def _ask(path, body):
        async with serve(models=[curved]) as client:
            return await client.post(path, json=body)

    return _ask


async def own(ask):
    item = {"prompt": "Why?", "response": RESPONSE}
    return (await ask("/score", {"items": [item]})).json()["rewards"][0]


async def test_trainers_that_tell_the_response_get_the_reward_of_the_pair(ask):
    queries = {"query": [TEXT], "prompts": [PROMPT], "labels": [None]}
    sample = {"prompt": PROMPT, "response": RESPONSE + "<|im_end|>", "label": None}
    reward = await own(ask)
    assert (await ask("/get_reward", queries)).json()["rewards"] == [reward]
    assert (await ask("/slime", sample)).json() == reward


async def test_text_with_its_response_is_the_pair(ask):
    told = {"text": TEXT, "response": RESPONSE}
    answer = (await ask("/score", {"items": [told, told | {"response": "other"}]})).json()
    assert answer["rewards"] == [await own(ask), None]
    assert answer["items"][1]["error"] == {
        "type": "malformed", "detail": "the response is not in the text",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {"query": [TEXT]},
        {"query": [TEXT], "prompts": ["another beginning"]},
        {"query": [TEXT], "prompts": [None]},
        {"query": [TEXT], "prompts": [""]},
        {"query": [TEXT], "prompts": [PROMPT, PROMPT]},
    ],
)
async def test_text_alone_has_no_reward(ask, body):
    response = await ask("/get_reward", body)
    assert response.status_code == 422
    assert response.json()["error"].startswith("item 0: no-response: ")


async def test_nothing_but_the_closing_token_has_length_0(ask, curved):
    body = {"query": [PROMPT + "<|im_end|>"], "prompts": [PROMPT]}
    answer = (await ask("/get_reward", body)).json()
    text = {"text": PROMPT + "<|im_end|>", "response": ""}
    (item,) = (await ask("/score", {"items": [text]})).json()["items"]
    # Below the first knot the curve is constant.
    assert answer["rewards"] == [pytest.approx((item["score"] + 40.0 - 0.5) / 2)]
