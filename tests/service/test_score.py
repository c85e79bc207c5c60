"""POST /score against plain Transformers, and every way a request or an item can be bad."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

ITEMS = [
    {"prompt": "What is 2 + 2?", "response": "4"},
    {"prompt": "What is 2 + 2?", "response": "About five, I think."},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]},
    {"text": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>"},
    {"token_ids": [5, 6, 7, 8, 9]},
]


def plain_scores(directory: Path, items: list[dict]) -> list[float]:
    """Scores by Transformers alone, one sequence at a time, fp32."""
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    found = []
    for item in items:
        ids = item.get("token_ids")
        if ids is None:
            text = item.get("text")
            if text is None:
                messages = item.get("messages") or [
                    {"role": "user", "content": item["prompt"]},
                    {"role": "assistant", "content": item["response"]},
                ]
                text = tokenizer.apply_chat_template(messages, tokenize=False)
            ids = tokenizer(text, add_special_tokens=False).input_ids
        with torch.inference_mode():
            found.append(model(torch.tensor([ids])).logits.item())
    return found


async def test_scores_of_all_forms_equal_plain_transformers(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        answer = (await client.post("/score", json={"items": ITEMS})).json()
    expected = plain_scores(tiny_checkpoint, ITEMS)
    assert [item["score"] for item in answer["items"]] == pytest.approx(expected, abs=1e-5)
    # The fixture's calibration has mean 0.5 and std 2.
    assert answer["rewards"] == pytest.approx([(s - 0.5) / 2 for s in expected], abs=1e-5)
    assert answer["model"] == tiny_checkpoint.name
    assert answer["revision"].startswith("sha256:")
    assert answer["usage"]["tokens"] == sum(item["tokens"] for item in answer["items"])


async def test_groups_come_back_flat_and_in_order(serve, tiny_checkpoint):
    groups = [
        {"prompt": "A?", "responses": ["one", "two"]},
        {"prompt": [{"role": "user", "content": "B?"}], "responses": ["three"]},
    ]
    items = [
        {"prompt": "A?", "response": "one"},
        {"prompt": "A?", "response": "two"},
        {"prompt": "B?", "response": "three"},
    ]
    async with serve(models=[tiny_checkpoint]) as client:
        grouped = (await client.post("/score", json={"groups": groups})).json()
        single = (await client.post("/score", json={"items": items})).json()
    assert grouped["rewards"] == single["rewards"]


async def test_an_empty_list_is_answered_with_empty_lists(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for body in ({"items": []}, {"groups": []}):
            response = await client.post("/score", json=body)
            assert response.status_code == 200
            assert response.json()["rewards"] == response.json()["items"] == []


BAD_ITEMS = {
    "empty": {"prompt": "Hi", "response": ""},
    "no-response": {"messages": [{"role": "user", "content": "Hi"}]},
    "too-long": {"token_ids": [5] * 513},
    "token-out-of-range": {"token_ids": [5, 100_000]},
    "malformed": {"prompt": "Hi", "response": "Ho", "text": "both"},
}


async def test_a_bad_item_is_answered_alone(serve, tiny_checkpoint):
    items = [ITEMS[0], *BAD_ITEMS.values(), ITEMS[1]]
    async with serve(models=[tiny_checkpoint]) as client:
        response = await client.post("/score", json={"items": items})
    answer = response.json()
    assert response.status_code == 200
    assert [item.get("error", {}).get("type") for item in answer["items"][1:-1]] == list(BAD_ITEMS)
    assert answer["rewards"][1:-1] == [None] * len(BAD_ITEMS)
    expected = plain_scores(tiny_checkpoint, ITEMS[:2])
    assert answer["items"][0]["score"] == pytest.approx(expected[0], abs=1e-5)
    assert answer["items"][-1]["score"] == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("ids", [[-1], [2**31], [2**63]])
async def test_ids_outside_the_vocabulary_never_reach_the_model(serve, tiny_checkpoint, ids):
    async with serve(models=[tiny_checkpoint]) as client:
        answer = (await client.post("/score", json={"items": [{"token_ids": ids}]})).json()
    assert answer["items"][0]["error"]["type"] == "token-out-of-range"


BAD_BODIES = {
    "unknown field": ({"items": [], "colour": 1}, "colour"),
    "unknown field of an item": ({"items": [{"text": "x", "template": "y"}]}, "template"),
    "wrong type": ({"items": [{"text": 5}]}, "$.items[0].text"),
    "items is no list": ({"items": {}}, "$.items"),
    "bool as id": ({"items": [{"token_ids": [True]}]}, "token_ids[0]"),
    "float as id": ({"items": [{"token_ids": [1.5]}]}, "token_ids[0]"),
    "neither items nor groups": ({}, "items or groups"),
    "both": ({"items": [], "groups": []}, "items or groups"),
    "unknown truncation": ({"items": [], "truncation": "middle"}, "truncation"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_malformed_body_is_a_problem_that_names_the_place(serve, tiny_checkpoint, name):
    body, place = BAD_BODIES[name]
    async with serve(models=[tiny_checkpoint]) as client:
        response = await client.post("/score", json=body)
    problem = response.json()
    assert response.status_code == problem["status"] == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert place in problem["detail"]
    assert problem["remedy"]
    assert problem["instance"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b'{"items": [1e999]}', b"\xff\xfe", b"null"]
)
async def test_bytes_that_are_no_json_are_malformed(serve, tiny_checkpoint, body):
    async with serve(models=[tiny_checkpoint]) as client:
        response = await client.post("/score", content=body)
    assert response.status_code == 422


async def test_an_unknown_model_is_not_found_and_never_a_path(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for name in ("nope", str(tiny_checkpoint), "../m0", "hf://x/y", "http://127.0.0.1/x"):
            response = await client.post("/score", json={"items": [], "model": name})
            assert response.status_code == 404
            assert tiny_checkpoint.name in response.json()["detail"]


async def test_routes_and_methods_that_do_not_exist_are_problems(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        missing = await client.get("/nothing")
        wrong = await client.get("/score")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert missing.json()["type"].endswith("#not-found")
    assert wrong.json()["type"].endswith("#method-not-allowed")


async def test_limits_are_enforced(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], max_items=2, max_body_megabytes=0.001) as client:
        items = await client.post("/score", json={"items": [{"text": "x"}] * 3})
        body = await client.post("/score", content=b" " * 1001)
    assert items.status_code == body.status_code == 413


@pytest.mark.parametrize("side", ["left", "right"])
async def test_truncation_scores_the_kept_ids_and_says_how_many_went(serve, tiny_checkpoint, side):
    ids = [3 + i % 200 for i in range(600)]
    kept = ids[-512:] if side == "left" else ids[:512]
    async with serve(models=[tiny_checkpoint]) as client:
        body = {"items": [{"token_ids": ids}], "truncation": side}
        item = (await client.post("/score", json=body)).json()["items"][0]
    assert (item["tokens"], item["truncated"]) == (512, 88)
    expected = plain_scores(tiny_checkpoint, [{"token_ids": kept}])
    assert item["score"] == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.parametrize("route", ["/score", "/ensemble_score"])
async def test_a_request_may_have_a_lower_limit_of_its_own(serve, ensemble_file, members, route):
    ids = [3 + i % 200 for i in range(600)]
    name = {"model": members[0].name} if route == "/score" else {}

    async def ask(client, **more):
        body = {"items": [{"token_ids": ids}], **name, **more}
        return (await client.post(route, json=body)).json()

    async with serve(models=[ensemble_file]) as client:
        refused = await ask(client, max_tokens=100)
        cut = await ask(client, max_tokens=100, truncation="left")
        kept = (
            await client.post(route, json={"items": [{"token_ids": ids[-100:]}], **name})
        ).json()
        higher = await ask(client, max_tokens=9999, truncation="left")
        none = await ask(client, max_tokens=0)
    assert refused["items"][0]["error"]["detail"] == "600 tokens, the limit is 100"
    assert cut["rewards"] == kept["rewards"]
    assert (cut["items"][0]["tokens"], cut["items"][0]["truncated"]) == (100, 500)
    assert (higher["items"][0]["tokens"], higher["items"][0]["truncated"]) == (512, 88)
    assert none["status"] == 422


async def test_a_repeated_item_is_computed_once_and_then_cached(serve, tiny_checkpoint):
    body = {"items": [ITEMS[0], ITEMS[0]]}
    async with serve(models=[tiny_checkpoint]) as client:
        first = (await client.post("/score", json=body)).json()
        second = (await client.post("/score", json=body)).json()
    tokens = first["items"][0]["tokens"]
    assert first["usage"] == {"tokens": 2 * tokens, "computed_tokens": tokens, "cached": 0}
    assert second["usage"] == {"tokens": 2 * tokens, "computed_tokens": 0, "cached": 2}
    assert second["rewards"] == first["rewards"]


async def test_nan_weights_are_an_error_of_each_item_and_never_cached(
    serve, tmp_path, tokenizer, save_plain
):
    broken = save_plain(tmp_path / "broken", tokenizer, seed=0)
    weights = load_file(broken / "model.safetensors")
    weights["score.weight"].fill_(float("nan"))
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    async with serve(models=[broken]) as client:
        for _ in range(2):
            answer = (await client.post("/score", json={"items": ITEMS[:2]})).json()
            assert answer["rewards"] == [None, None]
            assert {item["error"]["type"] for item in answer["items"]} == {"non-finite"}
            assert answer["usage"]["cached"] == 0


async def test_a_plain_model_is_served_without_calibration(serve, tmp_path, tokenizer, save_plain):
    plain = save_plain(tmp_path / "plain", tokenizer, seed=4)
    async with serve(models=[plain]) as client:
        answer = (await client.post("/score", json={"items": ITEMS})).json()
        listed = (await client.get("/models")).json()["models"]
    assert answer["rewards"] == [item["score"] for item in answer["items"]]
    assert [model["kind"] for model in listed] == ["plain"]


async def test_a_deadline_of_the_caller_ends_in_504(serve, tiny_checkpoint):
    headers = {"X-Request-Deadline-Ms": "1"}
    items = [{"token_ids": [3 + i] * 500} for i in range(200)]
    async with serve(models=[tiny_checkpoint]) as client:
        late = await client.post("/score", json={"items": items}, headers=headers)
        assert late.status_code in (503, 504)  # never admitted, or not done
        for value in ("soon", "0", "-1", "9" * 5000):
            headers = {"X-Request-Deadline-Ms": value}
            wrong = await client.post("/score", json={}, headers=headers)
            assert wrong.status_code == 422


async def test_an_unknown_priority_is_refused_and_the_known_ones_score(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for value, code in (("train", 200), ("eval", 200), ("offline", 200), ("urgent", 422)):
            headers = {"X-Priority": value}
            answer = await client.post("/score", json={"items": ITEMS}, headers=headers)
            assert answer.status_code == code
    assert "train, eval, offline" in answer.json()["detail"]
