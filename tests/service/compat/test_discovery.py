"""What clients ask before they score."""

import json

import pytest

from service.engines.torch_engine import TorchEngine


async def test_models_are_listed_as_openai_does(serve, ensemble_file, members):
    async with serve(models=[ensemble_file]) as client:
        listed = (await client.get("/v1/models")).json()
        own = (await client.get("/models")).json()["models"]
        one = (await client.get("/v1/models/ens")).json()
        unknown = await client.get("/v1/models/org/other")
    assert listed["object"] == "list"
    assert [card["id"] for card in listed["data"]] == [model["name"] for model in own]
    assert [card["root"] for card in listed["data"]] == [model["revision"] for model in own]
    assert one in listed["data"]
    assert one["max_model_len"] == 512
    assert unknown.status_code == 404
    assert unknown.json()["error"]["type"] == "NotFoundError"


async def test_two_ensembles_of_the_same_members_keep_their_names(serve, tmp_path, members):
    config = tmp_path / "models.yaml"
    names = {f"m{n}": str(path) for n, path in enumerate(members)}
    one = {"members": list(names), "aggregate": "mean"}
    both = {"first": one, "second": one | {"aggregate": "uwo"}}
    config.write_text(json.dumps({"models": names, "ensembles": both}))
    async with serve(config=config) as client:
        cards = [(await client.get(f"/v1/models/{name}")).json() for name in both]
    assert [card["id"] for card in cards] == list(both)
    assert cards[0]["root"] == cards[1]["root"]


async def test_health_is_open_and_empty_and_the_rest_is_not(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], api_keys="sesame") as client:
        health = await client.get("/health")
        closed = [await client.get(path) for path in ("/v1/models", "/info")]
        let_in = await client.get("/info", headers={"authorization": "Bearer sesame"})
    assert (health.status_code, health.content) == (200, b"")
    assert [answer.status_code for answer in closed] == [401, 401]
    assert let_in.status_code == 200


async def test_health_is_bad_while_the_engine_is_not_ready(serve, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(TorchEngine, "ready", False)
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.get("/health")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


@pytest.mark.parametrize("truncation", ["error", "left"])
async def test_info_is_of_the_model_that_nameless_routes_use(serve, ensemble_file, truncation):
    async with serve(models=[ensemble_file], compat_truncation=truncation) as client:
        info = (await client.get("/info")).json()
        revision = (await client.get("/v1/models/ens")).json()["root"]
    assert (info["model_id"], info["model_sha"]) == ("ens", revision)
    labels = {"id2label": {"0": "reward"}, "label2id": {"reward": 0}}
    assert info["model_type"] == {"reranker": labels}
    assert info["max_input_length"] == 512
    assert info["auto_truncate"] == (truncation == "left")
