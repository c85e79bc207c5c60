"""POST /score of a bundle: hand arithmetic over what POST /score says of each member."""

import logging
import shutil

import jsonschema
import msgspec
import numpy as np
import pytest

from plaudit import RewardClient, checkpoint
from plaudit.checkpoint import Calibration, CheckpointError, Stats
from service.banner import banner
from service.engines.torch_engine import TorchEngine
from service.listening import Place
from service.registry import Registry
from service.serve import warn_of_scales
from service.settings import Settings, SettingsError
from service.sources import sources

ITEMS = [{"prompt": "Why?", "response": f"Because of reason {i}."} for i in range(5)]
SCALES = {"helpful": (0.5, 2.0), "harmless": (-1.0, 0.25)}


def stats(mean: float, std: float) -> Stats:
    return Stats("validation", "sha256:0", 100, mean, std, ())


def scaled(source, directory, mean, std):
    """A copy of a checkpoint with statistics and a calibration of its own."""
    shutil.copytree(source, directory)
    manifest, _ = checkpoint.read(source)
    changed = msgspec.structs.replace(
        manifest, stats=stats(mean, std), calibration=Calibration("standardise", mean, std)
    )
    checkpoint.write(directory, changed)
    return directory


@pytest.fixture
def bundle_file(tmp_path, members):
    """``balanced.yaml``: helpful and harmless, of scales 8x apart."""
    for member, (name, (mean, std)) in zip(members, SCALES.items(), strict=False):
        scaled(member, tmp_path / name, mean, std)
    path = tmp_path / "balanced.yaml"
    path.write_text(
        "objectives:\n"
        "  helpful: {member: helpful, weight: 1}\n"
        "  harmless: {member: harmless, weight: 0.5}\n"
    )
    return path


async def post(client, **body):
    response = await client.post("/score", json={"items": ITEMS, **body})
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_reward_is_the_weighted_sum_of_normalised_scores(serve, bundle_file):
    async with serve(models=[bundle_file]) as client:
        own = {name: await post(client, model=name) for name in SCALES}
        answer = await post(client, model="balanced")
    raw = {name: [item["score"] for item in a["items"]] for name, a in own.items()}
    for place, item in enumerate(answer["items"]):
        normalised = {n: (raw[n][place] - m) / s for n, (m, s) in SCALES.items()}
        assert item["scores"] == {name: raw[name][place] for name in SCALES}
        assert item["objectives"] == pytest.approx(normalised)
        assert item["reward"] == pytest.approx(
            1 * normalised["helpful"] + 0.5 * normalised["harmless"]
        )
        assert "score" not in item  # a sum has none of its own
    assert answer["rewards"] == [item["reward"] for item in answer["items"]]
    assert answer["weights"] == {"helpful": 1, "harmless": 0.5}
    assert "weights" not in own["helpful"]
    assert answer["usage"]["cached"] == len(ITEMS)


async def test_other_weights_compute_nothing_and_are_another_revision(serve, bundle_file):
    async with serve(models=[bundle_file]) as client:
        first = await post(client, model="balanced")
        swept = [
            await post(client, model="balanced", weights={"harmless": 1 - w, "helpful": w})
            for w in (0, 0.25, 1)
        ]
        declared = await post(client, model="balanced", weights=first["weights"])
    helpful, harmless = (
        np.array([item["objectives"][name] for item in first["items"]]) for name in SCALES
    )
    for w, answer in zip((0, 0.25, 1), swept, strict=True):
        assert answer["rewards"] == pytest.approx(w * helpful + (1 - w) * harmless)
        assert answer["weights"] == {"helpful": w, "harmless": 1 - w}
        assert answer["usage"]["computed_tokens"] == 0
    revisions = {answer["revision"] for answer in [first, *swept]}
    assert len(revisions) == 4
    assert declared["revision"] == first["revision"]


async def test_an_item_that_one_member_cannot_score_is_an_error(serve, bundle_file, tmp_path):
    manifest, _ = checkpoint.read(tmp_path / "harmless")
    shorter = msgspec.structs.replace(manifest, max_tokens=100, probes=())  # longer ones are cut
    checkpoint.write(tmp_path / "harmless", shorter)
    items = [ITEMS[0], {"token_ids": [5] * 101}, {"prompt": "Why?", "response": ""}, ITEMS[1]]
    async with serve(models=[bundle_file]) as client:
        alone = await post(client, model="helpful", items=items)
        # With no weight on the member that fails, too.
        for weights in ({"helpful": 1, "harmless": 0.5}, {"helpful": 1, "harmless": 0}):
            answer = await post(client, model="balanced", items=items, weights=weights)
            assert [r is None for r in answer["rewards"]] == [False, True, True, False]
            assert answer["items"][1].keys() == answer["items"][2].keys() == {"error"}
            assert answer["items"][1]["error"]["type"] == "too-long"
            assert answer["items"][2]["error"]["type"] == "empty"
    assert alone["rewards"][1] is not None


async def test_models_lists_the_bundle_with_its_weights(serve, bundle_file):
    async with serve(models=[bundle_file]) as client:
        listed = (await client.get("/models")).json()["models"]
        answer = await post(client, model="balanced", items=[])
        ambiguous = await client.post("/score", json={"items": []})
        schema = (await client.get("/openapi.json")).json()
    assert [(m["name"], m["kind"]) for m in listed] == [
        ("helpful", "single"), ("harmless", "single"), ("balanced", "objectives"),
    ]  # fmt: skip
    bundle = listed[2]
    assert bundle["members"] == ["helpful", "harmless"]
    assert bundle["weights"] == {"helpful": 1, "harmless": 0.5}
    assert bundle["revision"] == answer["revision"]
    assert answer["rewards"] == answer["items"] == []
    assert ambiguous.status_code == 404
    assert "name one of ['balanced', 'harmless', 'helpful']" in ambiguous.json()["detail"]
    for name, value in (("ScoreResponse", answer), ("ModelInfo", bundle)):
        reference = {"$ref": f"#/components/schemas/{name}", "components": schema["components"]}
        jsonschema.validate(value, reference)


REFUSED = {
    "an unknown name": ({"helpful": 1, "kind": 1}, "harmless"),
    "a missing name": ({"helpful": 1}, "harmless"),
    "a negative weight": ({"helpful": 1, "harmless": -1}, "weights"),
    "no weight at all": ({"helpful": 0, "harmless": 0}, "every weight is 0"),
    "a weight beyond all measure": ({"helpful": 1e300, "harmless": 1}, "weights"),
    "no number": ({"helpful": "much", "harmless": 1}, "weights"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_weights_that_do_not_fit_are_a_problem(serve, bundle_file, name):
    weights, said = REFUSED[name]
    body = {"items": ITEMS, "model": "balanced", "weights": weights}
    async with serve(models=[bundle_file]) as client:
        response = await client.post("/score", json=body)
    assert response.status_code == 422
    assert said in response.json()["detail"]


async def test_weights_for_a_single_model_are_a_problem(serve, bundle_file):
    async with serve(models=[bundle_file]) as client:
        body = {"items": ITEMS, "model": "helpful", "weights": {"helpful": 1}}
        response = await client.post("/score", json=body)
    assert response.status_code == 422
    assert "helpful is one model" in response.json()["detail"]


async def test_config_declares_bundles_over_its_names(serve, tmp_path, bundle_file):
    path = tmp_path / "models.yaml"
    path.write_text(
        "models: {a: helpful, b: harmless}\n"
        "bundles:\n"
        "  both: {objectives: {kind: {member: a, weight: 2}, safe: {member: b, weight: 1}}}\n"
    )
    async with serve(config=path) as client:
        answer = await post(client, model="both")
    first = answer["items"][0]
    assert answer["weights"] == {"kind": 2, "safe": 1}
    expected = 2 * first["objectives"]["kind"] + first["objectives"]["safe"]
    assert first["reward"] == pytest.approx(expected)


async def test_the_revision_is_of_names_members_and_weights(serve, tmp_path, bundle_file):
    declarations = {
        "same": {"helpful": ("helpful", 1), "harmless": ("harmless", 0.5)},
        "weights": {"helpful": ("helpful", 1), "harmless": ("harmless", 0.75)},
        "names": {"kind": ("helpful", 1), "harmless": ("harmless", 0.5)},
        "members": {"helpful": ("harmless", 1), "harmless": ("helpful", 0.5)},
    }
    files = [bundle_file]
    for stem, declared in declarations.items():
        files.append(tmp_path / f"{stem}.yaml")
        objectives = {n: {"member": m, "weight": w} for n, (m, w) in declared.items()}
        files[-1].write_text(msgspec.json.encode({"objectives": objectives}).decode())
    async with serve(models=files) as client:
        listed = (await client.get("/models")).json()["models"]
    revision = {m["name"]: m["revision"] for m in listed if m["kind"] == "objectives"}
    assert revision["balanced"] == revision.pop("same")
    assert len(set(revision.values())) == 4


async def test_an_uncalibrated_member_is_refused(
    serve, tmp_path, tokenizer, save_plain, bundle_file
):
    save_plain(tmp_path / "plain", tokenizer, seed=0)
    path = tmp_path / "odd.yaml"
    path.write_text(
        "objectives: {a: {member: plain, weight: 1}, b: {member: helpful, weight: 1}}\n"
    )
    with pytest.raises(CheckpointError, match="objectives odd: a not calibrated"):
        async with serve(models=[path]):
            pytest.fail("it was served")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: {a: helpful}\nbundles: {x: {objectives: {h: {member: c, weight: 1}}}}",
         r"objectives x: no model is named \['c'\]"),
        ("models: {a: helpful}\nbundles: {a: {objectives: {h: {member: a, weight: 1}}}}",
         r"a bundle and a model or an ensemble are both named \['a'\]"),
    ],
)  # fmt: skip
async def test_names_that_are_missing_or_taken_are_refused(
    serve, tmp_path, bundle_file, text, said
):
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        async with serve(config=path):
            pytest.fail("it was served")


def test_two_bundles_of_one_name_are_refused(tmp_path, bundle_file):
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "balanced.yaml"
    other.write_text("objectives: {helpful: {member: ../helpful, weight: 1}}")
    settings = Settings(models=[bundle_file, other], _cli_parse_args=False)
    with pytest.raises(SettingsError, match="two bundles are named 'balanced'"):
        sources(settings)


async def test_scales_that_differ_are_said_at_the_start(tmp_path, bundle_file, metrics, caplog):
    settings = Settings(models=[bundle_file], dtype="float32", device="cpu", _cli_parse_args=False)
    registry = await Registry.open(TorchEngine(settings, metrics), sources(settings), metrics)
    with caplog.at_level(logging.WARNING, "plaudit"):
        warn_of_scales(registry)
    await registry.engine.close()
    [record] = caplog.records
    # Shares of 1 : 0.5, and of 1 x 2.0 : 0.5 x 0.25.
    assert "helpful 67%, harmless 33%" in record.getMessage()
    assert "would weigh helpful 94%, harmless 6%" in record.getMessage()
    said = banner(settings, registry, Place("http://127.0.0.1:8000"), None, "memory")
    assert "objectives balanced" in said


def test_the_client_sends_weights_and_reads_objectives(listen, bundle_file):
    pairs = [(item["prompt"], item["response"]) for item in ITEMS]
    weights = {"helpful": 1.0, "harmless": 2.0}
    with listen(models=[bundle_file]) as url, RewardClient(url, batch_items=2) as client:
        own = client.score(pairs, model="balanced")
        other = client.score(pairs, model="balanced", weights=weights)
        groups = client.score_groups(
            [("Why?", [response for _, response in pairs])], model="balanced", weights=weights
        )
        single = client.score(pairs, model="helpful")
        listed = client.models()
    assert own.weights == {"helpful": 1.0, "harmless": 0.5}
    assert (other.weights, groups.weights, single.weights) == (weights, weights, None)
    assert groups.rewards == other.rewards
    for item in other.items:
        assert item.reward == pytest.approx(
            item.objectives["helpful"] + 2 * item.objectives["harmless"]
        )
    assert listed[-1].weights == own.weights
