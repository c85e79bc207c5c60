"""slime and miles: the whole JSON answer is the reward of one sample."""

import pytest

PROMPT = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"


async def ask(client, path="/slime", **body):
    return await client.post(path, json={"label": None, **body})


async def test_a_templated_prompt_is_not_templated_again(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        text = (await ask(client, prompt=PROMPT, response="So.")).json()
        messages = [{"role": "user", "content": "Why?"}]
        templated = (await ask(client, prompt=messages, response="So.")).json()
        own = await client.post(
            "/score",
            json={"items": [{"text": PROMPT + "So."}, {"prompt": "Why?", "response": "So."}]},
        )
    assert [text, templated] == own.json()["rewards"]
    assert text != templated  # the tiny template closes the response's turn


@pytest.mark.parametrize("prompt", [PROMPT, [{"role": "user", "content": "Why?"}]])
async def test_an_empty_response_is_no_reward_of_its_prompt(serve, tiny_checkpoint, prompt):
    async with serve(models=[tiny_checkpoint]) as client:
        response = await ask(client, prompt=prompt, response="")
    assert response.status_code == 422
    assert response.json() == {
        "error": response.json()["error"], "type": "unscorable",
    }  # fmt: skip
    assert response.json()["error"].startswith("item 0: empty")


async def test_null_is_a_whole_answer(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], compat_on_error="slime=null") as client:
        bare = await ask(client, prompt=PROMPT, response="")
        keyed = await ask(client, "/slime?key=score", prompt=PROMPT, response="")
    assert (bare.text, keyed.json()) == ("null", {"score": None})
    assert bare.headers["x-plaudit-filled"] == "1"


async def test_a_key_that_is_no_name_is_refused(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        response = await ask(client, "/slime?key=a%20b", prompt=PROMPT, response="x")
    assert response.status_code == 422
