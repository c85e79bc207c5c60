"""vLLM's routes: what is taken, what is refused by name, and what a bad prompt does."""

import json

import httpx2
import numpy as np
import pytest
from transformers import AutoTokenizer

TEXT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!"
LONG = [3 + i % 200 for i in range(600)]  # the tiny model's limit is 512
ROUTES = ["/classify", "/pooling"]


async def score(client, item: dict, **more: object) -> float:
    body = {"items": [item], **more}
    return (await client.post("/score", json=body)).json()["items"][0]["score"]


def number(answer: httpx2.Response) -> float:
    (one,) = answer.json()["data"]
    return one["probs" if "probs" in one else "data"][0]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("side", ["left", "right"])
async def test_so_many_tokens_are_kept_at_the_named_side(serve, tiny_checkpoint, route, side):
    kept = LONG[-100:] if side == "left" else LONG[:100]
    body = {"input": LONG, "truncate_prompt_tokens": 100, "truncation_side": side}
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post(route, json=body)
        assert number(answer) == await score(client, {"token_ids": kept})
    assert answer.json()["usage"]["prompt_tokens"] == 100
    assert answer.headers["x-plaudit-truncated"] == "1"


async def test_minus_one_keeps_as_many_as_the_model_takes(serve, tiny_checkpoint):
    body = {"input": LONG, "truncate_prompt_tokens": -1, "truncation_side": "left"}
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/classify", json=body)
        assert number(answer) == await score(client, {"token_ids": LONG[-512:]})


@pytest.mark.parametrize("side", ["left", "right"])
async def test_without_a_side_the_tokenizers_is_taken(
    serve, tmp_path, tokenizer, save_plain, make_complete, side
):
    """As vLLM does: renderers/params.py, _truncation_slice."""
    plain = save_plain(tmp_path / "sided", tokenizer, seed=1)
    sided = AutoTokenizer.from_pretrained(plain, truncation_side=side)
    sided.save_pretrained(plain)
    kept = LONG[-50:] if side == "left" else LONG[:50]
    async with serve(models=[make_complete(plain)]) as client:
        answer = await client.post("/classify", json={"input": LONG, "truncate_prompt_tokens": 50})
        assert number(answer) == await score(client, {"token_ids": kept})


async def test_too_long_is_refused_unless_truncation_is_asked_for(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/classify", json={"input": LONG, "truncation_side": "left"})
    assert answer.status_code == 400
    assert "600 tokens, the limit is 512" in answer.json()["error"]["message"]


REFUSED = {
    "use_activation": True,
    "activation": True,
    "priority": 5,
    "padding": "max_length",
    "chat_template": "{{ messages }}",
    "chat_template_kwargs": {"a": 1},
    "add_generation_prompt": True,
    "continue_final_message": True,
    "mm_processor_kwargs": {"a": 1},
    "media_io_kwargs": {"image": {}},
    "normalize": True,
    "truncate_prompt_tokens": 513,
    "truncation_side": "middle",
}


REFUSED_BY_POOLING = {
    "task": "embed", "dimensions": 1, "encoding_format": "hex", "embed_dtype": "int8",
    "endianness": "middle",
}  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
async def test_what_is_not_done_is_refused_by_name(serve, tiny_checkpoint, route):
    fields = REFUSED if route == "/classify" else REFUSED | REFUSED_BY_POOLING
    async with serve(models=[tiny_checkpoint]) as client:
        for field, value in fields.items():
            answer = await client.post(route, json={"input": "x", field: value})
            error = answer.json()["error"]
            assert error.keys() == {"message", "type", "param", "code", "problem"}
            assert (answer.status_code, error["code"]) == (400, 400)
            assert error["type"] == "BadRequestError"
            assert field in error["message"]


NEUTRAL = {
    "user": "u", "cache_salt": "s", "use_activation": False, "activation": False, "priority": 0,
    "padding": "do_not_pad", "chat_template": None, "chat_template_kwargs": {},
    "add_generation_prompt": False, "continue_final_message": False, "mm_processor_kwargs": None,
    "media_io_kwargs": None, "add_special_tokens": True, "truncate_prompt_tokens": None,
}  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
async def test_what_changes_nothing_is_taken(serve, tiny_checkpoint, route):
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post(route, json={"input": TEXT, **NEUTRAL})
        assert number(answer) == await score(client, {"text": TEXT})


SCORELESS = [
    {"input": []},
    {"input": ""},
    {"input": [""]},
    {"input": [[]]},
    {"input": [[5], "a"]},
    {"input": [5, "a"]},
    {"input": [5, [6]]},
    {"input": [5.5]},
    {"input": [10**6]},
    {"input": [-1]},
    {"input": None},
    {"messages": []},
    {"messages": [{"role": "user", "content": "Hi"}]},
    {"messages": [{"role": "assistant", "content": ""}]},
    {"input": "x", "messages": [{"role": "assistant", "content": "y"}]},
    {"messages": [{"role": "assistant", "content": "y"}], "add_special_tokens": True},
    {},
    [],
    {"input": "x", "truncate_prompt_tokens": 0},
    {"input": "x", "truncate_prompt_tokens": -2},
]


async def test_a_request_without_a_score_is_a_bad_request(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for body in SCORELESS:
            for route in ROUTES:
                answer = await client.post(route, json=body)
                assert answer.status_code == 400, body
                assert answer.json()["error"]["message"]


async def test_one_bad_prompt_fails_all_and_is_named(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/classify", json={"input": ["fine", "", "fine"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("item 1: empty: ")


@pytest.mark.parametrize(("policy", "stands_in"), [("null", None), ("floor:-3.5", -3.5)])
async def test_a_policy_may_stand_in_for_a_bad_prompt(serve, tiny_checkpoint, policy, stands_in):
    async with serve(models=[tiny_checkpoint], compat_on_error=f"fail,vllm={policy}") as client:
        answer = await client.post("/classify", json={"input": ["fine", "", "fine"]})
        binary = await client.post("/pooling", json={"input": "", "encoding_format": "base64"})
    first, second, third = (one["probs"][0] for one in answer.json()["data"])
    assert second == stands_in
    assert first == third != stands_in
    assert answer.headers["x-plaudit-filled"] == "1"
    assert binary.json()["data"][0]["data"] == ("AADAfw==" if stands_in is None else "AABgwA==")


async def test_an_unknown_model_is_not_found(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/classify", json={"model": "org/other", "input": "x"})
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "NotFoundError"


async def test_a_path_or_a_hubs_id_names_a_model_by_its_last_part(serve, members):
    async with serve(models=members) as client:
        for model in ("m1", "org/m1", str(members[1])):
            answer = await client.post("/classify", json={"model": model, "input": TEXT})
            own = await client.post("/score", json={"model": "m1", "items": [{"text": TEXT}]})
            assert number(answer) == own.json()["items"][0]["score"]


async def test_a_plain_model_is_not_squashed(serve, tmp_path, tokenizer, save_plain):
    """vLLM gives the logistic function of a score where config.json has no problem_type."""
    plain = save_plain(tmp_path / "plain", tokenizer, seed=3, problem_type=None)
    async with serve(models=[plain]) as client:
        answer = await client.post("/classify", json={"input": TEXT})
        assert number(answer) == await score(client, {"text": TEXT})


@pytest.mark.parametrize("kind", ["bytes", "bytes_only"])
async def test_bytes_of_scores_stand_one_after_the_other(serve, tiny_checkpoint, kind):
    texts = [TEXT, "other"]
    body = {"input": texts, "encoding_format": kind, "endianness": "big", "request_id": "ä"}
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/pooling", json=body)
        scores = [await score(client, {"text": text}) for text in texts]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert np.frombuffer(answer.content, ">f4").tolist() == scores
    assert ("metadata" in answer.headers) == (kind == "bytes")
    if kind == "bytes":
        metadata = json.loads(answer.headers["metadata"])
        assert metadata["id"] == "pooling-ä"
        assert metadata["data"][1] == {
            "index": 1, "embed_dtype": "float32", "endianness": "big", "start": 4, "end": 8,
            "shape": [1],
        }  # fmt: skip


async def test_members_that_cut_at_different_sides_need_one_named(
    serve, tmp_path, tokenizer, save_plain, make_complete, tiny_checkpoint
):
    plain = save_plain(tmp_path / "sided", tokenizer, seed=1)
    AutoTokenizer.from_pretrained(plain, truncation_side="left").save_pretrained(plain)
    body = {"input": LONG, "truncate_prompt_tokens": 50}
    models = [tiny_checkpoint, make_complete(plain)]
    async with serve(models=models, ensemble=True) as client:
        answer = await client.post("/classify", json=body)
        named = await client.post("/classify", json={**body, "truncation_side": "left"})
    assert answer.status_code == 400
    assert "truncation_side" in answer.json()["error"]["message"]
    assert named.status_code == 200


async def test_an_ensemble_of_one_gives_its_calibrated_reward(serve, tmp_path, tiny_checkpoint):
    """How a client of a format that gives raw scores gets rewards."""
    (tmp_path / "rewards.yaml").write_text(f"members: [{tiny_checkpoint}]\n")
    async with serve(models=[tmp_path / "rewards.yaml"]) as client:
        answer = await client.post("/classify", json={"input": TEXT})
        own = await client.post("/score", json={"items": [{"text": TEXT}]})
    assert [number(answer)] == own.json()["rewards"]
    assert number(answer) != own.json()["items"][0]["score"]
