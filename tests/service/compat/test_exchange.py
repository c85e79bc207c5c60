"""Which model a peer's request gets, and what it waits for."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from plaudit.joint_model import JointModel
from service.admission import Admission
from service.banner import banner
from service.compat.exchange import NUMBER
from service.compat.on_error import PEERS
from service.engines.torch_engine import TorchEngine
from service.listening import Place
from service.registry import Registry
from service.settings import Settings, SettingsError
from service.sources import sources

TEXT = "Eight minutes."
INFER = "/v2/models/reward_model/infer"
SENTENCE = {"inputs": [{"name": "sentences", "datatype": "BYTES", "shape": [1], "data": [TEXT]}]}


@pytest.fixture
def bundle_file(tmp_path, members):
    path = tmp_path / "both.yaml"
    lines = [f"  o{i}: {{member: {members[i]}, weight: {i + 1}}}" for i in (0, 1)]
    path.write_text("\n".join(["objectives:", *lines]) + "\n")
    return path


async def reward(client, path="/get_reward"):
    response = await client.post(path, json={"query": [TEXT]})
    assert response.status_code == 200, response.text
    return response.json()["rewards"][0]


async def own(client, route="score", **named):
    response = await client.post(f"/{route}", json={"items": [{"text": TEXT}], **named})
    return response.json()["rewards"][0]


async def test_an_ensemble_or_a_bundle_stands_for_its_members(serve, ensemble_file, bundle_file):
    async with serve(models=[ensemble_file]) as client:
        assert await reward(client) == await own(client, "ensemble_score")
    async with serve(models=[bundle_file]) as client:
        assert await reward(client) == await own(client, model="both")


async def test_of_several_one_must_be_named(serve, members, ensemble_file):
    name = members[1].name
    async with serve(models=members[:2]) as client:
        refused = await client.post("/get_reward", json={"query": [TEXT]})
    assert (refused.status_code, refused.json()["type"]) == (404, "unknown-model")
    assert "--compat-model" in refused.json()["error"]
    async with serve(models=[*members[:2]], compat_model=name) as client:
        assert await reward(client) == await own(client, model=name)
    with pytest.raises(SettingsError, match="--compat-model nobody"):
        async with serve(models=members, compat_model="nobody"):
            pytest.fail("it was served")


async def test_a_name_in_the_request_chooses_any_of_what_is_loaded(
    serve, ensemble_file, bundle_file, members
):
    models = [ensemble_file, bundle_file]
    async with serve(models=models, compat_model=members[2].name) as client:
        for name, route, named in (
            ("ens", "ensemble_score", {"ensemble": "ens"}),
            ("both", "score", {"model": "both"}),
            (members[0].name, "score", {"model": members[0].name}),
            ("reward_model", "score", {"model": members[2].name}),
        ):
            answer = await client.post(f"/v2/models/{name}/infer", json=SENTENCE)
            expected = await own(client, route, **named)
            assert answer.json()["outputs"][0]["data"] == [pytest.approx(expected, rel=1e-6)]
        unknown = await client.post("/v2/models/nobody/infer", json=SENTENCE)
    assert unknown.status_code == 404
    assert "'ens'" in unknown.json()["error"]


async def test_the_revision_is_in_every_answer(serve, ensemble_file):
    async with serve(models=[ensemble_file]) as client:
        answer = await client.post("/slime", json={"prompt": "a", "response": "b"})
        listed = (await client.get("/models")).json()["models"]
    (ensemble,) = [one for one in listed if one["kind"] == "ensemble"]
    assert answer.headers["x-plaudit-revision"] == ensemble["revision"]


@pytest.mark.parametrize(
    ("files", "named", "said"),
    [
        (["ens"], None, "ens"),
        (["ens", "m1"], "m1", "m1"),
        (["m0", "m1"], None, "one of m0, m1, by --compat-model"),
    ],
)
async def test_the_start_says_which_it_is(ensemble_file, members, metrics, files, named, said):
    paths = {"ens": ensemble_file, **{path.name: path for path in members}}
    settings = Settings(
        models=[paths[name] for name in files], compat_model=named, device="cpu", dtype="float32",
        _cli_parse_args=False,
    )  # fmt: skip
    registry = await Registry.open(TorchEngine(settings, metrics), sources(settings), metrics)
    start = banner(settings, registry, Place("http://127.0.0.1:8000"), None, "memory")
    assert f"  trainers' own routes: {said}" in start
    await registry.engine.close()


def tensors(*given):
    keys = ("name", "datatype", "shape", "data")
    return {"inputs": [dict(zip(keys, one, strict=False)) for one in given]}


LENGTHS = ("sequence_lengths", "INT64", [3], [0, 0, 0])
# Of three items each; what some of them have wrong besides is not looked at.
TOO_MANY = [
    ("/score", {"items": [{}] * 3}),
    ("/score", {"groups": [{"prompt": "a", "responses": ["b", "c"]}] * 2}),
    ("/get_reward", {"query": ["a"] * 3}),
    ("/classify", {"input": ["a", 5, []]}),
    ("/classify", {"text": ["a"] * 3, "rid": ["too few"]}),
    ("/classify", {"input_ids": [[1], [2], [3]]}),
    ("/v1/embeddings", {"input": [[1], [2], "c"]}),
    ("/predict", {"inputs": [["a", "pair", "is two"], ["a"], ["a"]]}),
    ("/rerank", {"query": "q", "texts": ["a"] * 3}),
    ("/v1/rerank", {"query": "q", "documents": ["a"] * 3}),
    (INFER, tensors(("sentences", "BYTES", [3], [5]))),
    (INFER, tensors(("sentences", "BYTES", [1, 3], ["a"]))),
    (INFER, tensors(("tokens", "INT64", [3, 0]), LENGTHS)),
    (INFER, tensors(("tokens", "INT64", [2, 0]), LENGTHS)),
]


@pytest.mark.parametrize(("path", "body"), TOO_MANY)
async def test_too_many_items_are_refused_before_they_are_made(serve, tiny_checkpoint, path, body):
    async with serve(models=[tiny_checkpoint], max_items=2) as client:
        refused = await client.post(path, json=body)
    assert refused.status_code == 413, refused.text
    assert "items, the limit is 2" in refused.text


async def test_ids_of_one_item_are_not_counted_as_items(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], max_items=2) as client:
        for body in ({"input": [10, 11, 12]}, {"input_ids": [10, 11, 12]}):
            assert (await client.post("/classify", json=body)).status_code == 200
        tokens = ("tokens", "INT64", [2, 3], [10, 11, 12] * 2)
        wide = tensors(tokens, ("sequence_lengths", "INT64", [2], [3, 2]))
        assert (await client.post(INFER, json=wide)).status_code == 200


def test_every_peer_has_a_number():
    assert NUMBER.keys() == set(PEERS)


# Far more than decoding and encoding take, and far less than the server's limit.
ALLOWED_SECONDS, LIMIT_SECONDS = 60, 600


def test_overload_is_held_and_only_then_503(listen, tiny_checkpoint, monkeypatch):
    begun, gate = threading.Event(), threading.Event()
    whole = JointModel.compute

    def held(self, asked):
        begun.set()
        assert gate.wait(60)
        return whole(self, asked)

    admit = Admission.admit

    def impatient(self, caller, tokens, deadline):
        """Who gave less than the server's limit has waited for room until its deadline."""
        now = asyncio.get_running_loop().time()
        until = now if deadline - now < LIMIT_SECONDS / 2 else deadline
        return admit(self, caller, tokens, until)

    settings = {"max_queued_tokens": 1, "deadline_seconds": LIMIT_SECONDS}
    with listen(models=[tiny_checkpoint], **settings) as url, ThreadPoolExecutor() as callers:
        monkeypatch.setattr(JointModel, "compute", held)
        monkeypatch.setattr(Admission, "admit", impatient)

        def ask(text, path="/get_reward", body=None, **headers):
            asked = body or {"query": [text]}
            return httpx2.post(url + path, json=asked, headers=headers, timeout=60)

        try:
            first = callers.submit(ask, "first")
            assert begun.wait(60)
            patient = callers.submit(ask, "second")
            allowed = {"x-request-deadline-ms": str(ALLOWED_SECONDS * 1000)}
            refused = [
                ask("third", **allowed),
                ask("", "/slime", {"prompt": "a", "response": "b"}, **allowed),
                ask("", INFER, SENTENCE, **allowed),
            ]
            assert not patient.done()
        finally:
            gate.set()
        assert (first.result().status_code, patient.result().status_code) == (200, 200)
    for answer in refused:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert refused[0].json()["type"] == refused[1].json()["type"] == "overloaded"
    assert refused[2].json()["error"].startswith("overloaded: ")
