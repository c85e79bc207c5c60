"""A request may name the revision it is for; the service answers for no other."""

from functools import partial

import pytest

ITEMS = [{"prompt": "Why?", "response": "Because."}]
OTHER = "sha256:" + 64 * "0"


@pytest.fixture
def bundle_file(tmp_path, members):
    path = tmp_path / "both.yaml"
    path.write_text(
        f"objectives:\n  kind: {{member: {members[0]}, weight: 1}}\n"
        f"  true: {{member: {members[1]}, weight: 2}}\n".replace("true:", '"true":')
    )
    return path


async def revisions(client):
    listed = (await client.get("/models")).json()["models"]
    return {model["name"]: model["revision"] for model in listed}


@pytest.mark.parametrize(("route", "field"), [("/score", "model"), ("/ensemble_score", "ensemble")])
async def test_the_named_revision_is_scored_with_and_another_is_a_409_of_both(
    serve, ensemble_file, route, field
):
    name = "m0" if field == "model" else "ens"
    async with serve(models=[ensemble_file]) as client:
        own = (await revisions(client))[name]
        body = {field: name, "items": ITEMS}
        assert (await client.post(route, json=body | {"revision": own})).json()["revision"] == own
        refused = await client.post(route, json=body | {"revision": OTHER})
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["type"].endswith("#revision-changed")
    assert problem["detail"] == f"{name} is {own}, and {OTHER} was asked for"
    assert (problem["revision"], problem["retryable"]) == (own, False)


async def test_of_a_bundle_it_is_that_of_the_weights_used(serve, bundle_file):
    weights = {"kind": 1.0, "true": 0.5}
    body = {"model": "both", "items": ITEMS}
    async with serve(models=[bundle_file]) as client:
        own = (await revisions(client))["both"]
        weighed = (await client.post("/score", json=body | {"weights": weights})).json()["revision"]
        assert weighed != own
        for asked, revision, status in (
            (body, own, 200),
            (body | {"weights": weights}, weighed, 200),
            (body | {"weights": weights}, own, 409),
        ):
            answer = await client.post("/score", json=asked | {"revision": revision})
            assert answer.status_code == status


async def test_nothing_is_computed_for_another_revision(serve, tiny_checkpoint, metrics):
    forwards = partial(metrics.registry.get_sample_value, "plaudit_batch_items_count")
    refusals = {"route": "/score", "type": "revision-changed"}
    async with serve(models=[tiny_checkpoint]) as client:
        await client.post("/score", json={"items": ITEMS, "revision": OTHER})
        assert metrics.registry.get_sample_value("plaudit_errors_total", refusals) == 1
        assert forwards() == 0
        await client.post("/score", json={"items": ITEMS})
        assert forwards() == 1
