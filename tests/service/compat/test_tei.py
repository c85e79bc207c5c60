"""TEI's routes: pairs and batches, the logistic function, and errors in its words."""

import math

import pytest

TEXT = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!"
LONG = "a" * 600  # the tiny model's limit is 512, a byte is a token


async def score(client, item: dict, **more: object) -> float:
    answer = await client.post("/score", json={"items": [item], **more})
    return answer.json()["items"][0]["score"]


async def test_scores_are_squashed_unless_raw_ones_are_asked_for(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        (squashed,) = (await client.post("/predict", json={"inputs": TEXT})).json()
        (raw,) = (await client.post("/predict", json={"inputs": TEXT, "raw_scores": True})).json()
        assert raw["score"] == await score(client, {"text": TEXT})
    assert squashed["score"] == pytest.approx(1 / (1 + math.exp(-raw["score"])))


@pytest.mark.parametrize(("direction", "side"), [("Left", "left"), ("right", "right")])
async def test_truncation_is_as_asked(serve, tiny_checkpoint, direction, side):
    body = {"inputs": LONG, "truncate": True, "truncation_direction": direction, "raw_scores": True}
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/predict", json=body)
        expected = await score(client, {"text": LONG}, truncation=side)
    assert answer.json()[0]["score"] == expected
    assert answer.headers["x-compute-tokens"] == "512"
    assert answer.headers["x-plaudit-truncated"] == "1"


@pytest.mark.parametrize("asked", [{}, {"truncate": False}])
async def test_nothing_is_cut_unless_asked(serve, tiny_checkpoint, asked):
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/predict", json={"inputs": LONG, **asked})
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "Tokenizer"
    assert "600 tokens, the limit is 512" in answer.json()["error"]


async def test_what_is_not_said_is_the_servers_own_truncation(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], compat_truncation="left") as client:
        cut = await client.post("/predict", json={"inputs": LONG})
        whole = await client.post("/predict", json={"inputs": LONG, "truncate": False})
    assert (cut.status_code, whole.status_code) == (200, 422)


REFUSED = [
    ("/predict", {"inputs": []}),
    ("/predict", {"inputs": ["a", "b", "c"]}),
    ("/predict", {"inputs": [["a", "b", "c"]]}),
    ("/predict", {"inputs": [[]]}),
    ("/predict", {"inputs": [["a"], "b"]}),
    ("/predict", {"inputs": [5]}),
    ("/predict", {"inputs": "x", "truncation_direction": "up"}),
    ("/predict", {"inputs": "x", "model": "m0"}),
    ("/predict", {}),
    ("/rerank", {"query": "x", "texts": []}),
    ("/rerank", {"query": "x", "texts": "y"}),
    ("/rerank", {"texts": ["y"]}),
]


async def test_another_shape_is_refused(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for route, body in REFUSED:
            answer = await client.post(route, json=body)
            assert answer.status_code == (400 if route == "/rerank" else 422), body
            assert answer.json().keys() == {"error", "error_type", "message"}
            assert answer.json()["error_type"] == "Validation"


async def test_a_bad_text_fails_all_unless_a_policy_stands_in(serve, tiny_checkpoint):
    body = {"inputs": [["fine"], [""]], "raw_scores": False}
    async with serve(models=[tiny_checkpoint]) as client:
        failed = await client.post("/predict", json=body)
    async with serve(models=[tiny_checkpoint], compat_on_error="tei=floor:-1") as client:
        filled = await client.post("/predict", json=body)
    assert failed.status_code == 422
    assert failed.json()["error"].startswith("item 1: empty")
    assert filled.json()[1][0]["score"] == pytest.approx(1 / (1 + math.e))
