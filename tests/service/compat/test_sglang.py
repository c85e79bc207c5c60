"""SGLang's routes: one for one and a list for a list, raw scores, and refusals by name."""

import pytest

TEXT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!"
NATIVE = ["/classify", "/encode"]


async def score(client, item: dict) -> float:
    return (await client.post("/score", json={"items": [item]})).json()["items"][0]["score"]


@pytest.mark.parametrize("route", NATIVE)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_one_is_answered_with_one(serve, tiny_checkpoint, route, method):
    async with serve(models=[tiny_checkpoint]) as client:
        text = (await client.request(method, route, json={"text": TEXT})).json()
        ids = (await client.request(method, route, json={"input_ids": [5, 6, 7]})).json()
        assert text["embedding"] == [await score(client, {"text": TEXT})]
        assert ids["embedding"] == [await score(client, {"token_ids": [5, 6, 7]})]
    assert ids["meta_info"]["prompt_tokens"] == 3
    assert text["meta_info"]["id"] != ids["meta_info"]["id"]


@pytest.mark.parametrize("body", [{"text": [TEXT]}, {"input_ids": [[5, 6, 7]]}])
async def test_a_list_of_one_is_answered_with_a_list(serve, tiny_checkpoint, body):
    async with serve(models=[tiny_checkpoint]) as client:
        (one,) = (await client.post("/classify", json=body)).json()
    assert len(one["embedding"]) == 1


REFUSED = [
    ({"text": []}, "text"),
    ({"text": ""}, "item 0: empty"),
    ({"input_ids": []}, "input_ids"),
    ({"input_ids": [[5], 6]}, "input_ids"),
    ({"text": "x", "input_ids": [5]}, "text or input_ids"),
    ({"text": [["a", "b"]]}, "text"),
    ({"text": ["a", "b"], "rid": ["one"]}, "rid"),
    ({"text": "x", "priority": 3}, "priority"),
    ({"text": "x", "lora_path": "a"}, "lora_path"),
    ({"text": "x", "image_data": "a"}, "image_data"),
    ({"text": "x", "dimensions": 8}, "dimensions"),
    ({"text": "x", "return_pooled_hidden_states": True}, "return_pooled_hidden_states"),
    ({"text": "x", "conv": []}, "conv"),
    ({"text": None}, "text or input_ids"),
]


async def test_what_has_no_score_or_is_not_done_is_refused(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for body, named in REFUSED:
            answer = await client.post("/classify", json=body)
            assert answer.status_code == 400, body
            assert named in answer.json()["error"]["message"]


async def test_embeddings_refuse_by_name(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for field in ("dimensions", "priority", "lora_path", "embed_overrides"):
            answer = await client.post("/v1/embeddings", json={"input": "x", field: 3})
            assert answer.status_code == 400
            assert field in answer.json()["error"]["message"]


async def test_a_softmax_of_one_score_is_not_offered(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        assert (await client.post("/v1/classify", json={"input": "x"})).status_code == 404


async def test_what_has_its_bos_gets_no_second_and_ids_are_left_alone(serve, bos_checkpoint):
    async with serve(models=[bos_checkpoint]) as client:
        bare = await client.post("/classify", json={"text": TEXT})
        own = await client.post("/classify", json={"text": "<|begin|>" + TEXT})
        ids = await client.post("/classify", json={"input_ids": [5, 6, 7]})
    assert bare.json()["embedding"] == own.json()["embedding"]
    assert bare.json()["meta_info"]["prompt_tokens"] == own.json()["meta_info"]["prompt_tokens"]
    assert own.headers["x-plaudit-bos"] == "kept=1"
    assert "x-plaudit-bos" not in bare.headers
    assert ids.json()["meta_info"]["prompt_tokens"] == 3


@pytest.mark.parametrize("policy", ["null", "floor:-2"])
async def test_a_policy_may_stand_in(serve, tiny_checkpoint, policy):
    async with serve(models=[tiny_checkpoint], compat_on_error=f"sglang={policy}") as client:
        native = (await client.post("/classify", json={"text": ["", "x"]})).json()
        openai = (await client.post("/v1/embeddings", json={"input": ["", "x"]})).json()
    found = [native[0]["embedding"], openai["data"][0]["embedding"]]
    assert found == [[None if policy == "null" else -2.0]] * 2
    assert native[0]["meta_info"]["prompt_tokens"] == 0
