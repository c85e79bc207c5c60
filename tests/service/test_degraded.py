"""POST /ensemble_score when members fail, by faults that are real: limits, lengths, NaN, a forward
that raises."""

import shutil

import msgspec
import numpy as np
import pytest
import torch
from architectures import GPT2
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, GPT2Config

from plaudit import RewardClient, checkpoint
from plaudit.calibration import Calibration
from plaudit.checkpoint import CheckpointError
from service.settings import Settings, SettingsError
from service.sources import sources

SHORT = [{"prompt": "Why?", "response": f"Because of reason {i}."} for i in range(2)]
# Within the limit of 512, beyond one of 100.
LONG = {"prompt": "Why?", "response": "Because. " * 20}


@pytest.fixture
def file(tmp_path, members, copy_with):
    """``file("members", short=[0])``: members of which some take 100 tokens only."""

    def write(declared="", short=(0,)):
        found = [
            copy_with(member, tmp_path / f"short{i}", max_tokens=100) if i in short else member
            for i, member in enumerate(members)
        ]
        path = tmp_path / "ens.yaml"
        path.write_text(f"members: {[str(one) for one in found]}\n{declared}")
        return path

    return write


async def ask(client, items, **body):
    response = await client.post("/ensemble_score", json={"items": items, **body})
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_reward_without_a_member_is_of_those_that_scored_and_says_so(
    serve, file, members, metrics
):
    items = [SHORT[0], LONG, SHORT[1]]
    async with serve(models=[file("min_members: 2")]) as client:
        answer = await ask(client, items)
        whole = await ask(client, SHORT)
        own = [
            (await client.post("/score", json={"model": m.name, "items": [LONG]})).json()
            for m in members[1:]
        ]
    left = np.array([one["rewards"][0] for one in own])
    assert answer["rewards"][1] == answer["mean"][1] == pytest.approx(left.mean())
    assert answer["variance"][1] == pytest.approx(left.var(ddof=1))
    assert answer["member_scores"][1] == [None, *(one["items"][0]["score"] for one in own)]
    degraded = answer["items"][1]
    assert degraded["degraded"] is answer["degraded"] is True
    assert degraded["tokens"] == own[0]["items"][0]["tokens"]
    assert degraded["failed"].keys() == {"short0"}
    assert degraded["failed"]["short0"]["type"] == "too-long"
    assert whole["degraded"] is False
    for field in ("rewards", "mean", "variance", "member_scores"):
        assert answer[field][::2] == whole[field]
    assert all("degraded" not in item and "failed" not in item for item in answer["items"][::2])
    missing = {"ensemble": "ens", "member": "short0", "type": "too-long"}
    assert metrics.registry.get_sample_value("plaudit_ensemble_degraded_total", missing) == 1


@pytest.mark.parametrize(("declared", "short"), [("", (1,)), ("min_members: 2", (1, 2))])
async def test_too_few_members_are_no_reward_but_the_error_of_the_first_that_failed(
    serve, file, metrics, declared, short
):
    async with serve(models=[file(declared, short)]) as client:
        answer = await ask(client, [LONG, SHORT[0]])
    for field in ("rewards", "mean", "variance", "member_scores"):
        assert answer[field][0] is None
        assert answer[field][1] is not None
    assert answer["items"][0].keys() == {"error"}
    assert answer["items"][0]["error"]["type"] == "too-long"
    assert answer["degraded"] is False  # it has no reward that anyone could take for a whole one
    [counter] = [one for one in metrics.registry.collect() if one.name.endswith("_degraded")]
    assert counter.samples == []


async def test_one_member_alone_has_a_mean_and_no_variance_to_subtract(serve, file, members):
    async with serve(models=[file("min_members: 1", short=(0, 1))]) as client:
        answers = {
            kind: await ask(client, [LONG, SHORT[0]], aggregate=kind)
            for kind in ("mean", "median", "wco", "lcb", "uwo")
        }
        body = {"model": members[2].name, "items": [LONG]}
        alone = (await client.post("/score", json=body)).json()["rewards"][0]
    for kind in ("mean", "median", "wco"):
        assert answers[kind]["rewards"][0] == answers[kind]["mean"][0] == pytest.approx(alone)
        assert answers[kind]["variance"][0] is None
    for kind in ("lcb", "uwo"):
        assert answers[kind]["rewards"][0] is None
        assert answers[kind]["items"][0]["error"]["type"] == "too-long"
        assert answers[kind]["rewards"][1] is not None


async def test_an_item_that_no_member_can_score_is_bad_and_not_degraded(serve, file):
    async with serve(models=[file("min_members: 1")]) as client:
        answer = await ask(client, [{"prompt": "Why?", "response": ""}])
    assert answer["items"] == [{"error": {"type": "empty", "detail": "the response is empty"}}]
    assert answer["degraded"] is False


@pytest.fixture
def nan_head(tmp_path, members):
    """A member whose head was lost in training."""
    directory = tmp_path / "broken"
    shutil.copytree(members[0], directory)
    weights = load_file(directory / "model.safetensors")
    weights["score.weight"].fill_(float("nan"))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    manifest, _ = checkpoint.read(members[0])
    own = msgspec.structs.replace(manifest, probes=(), digests=checkpoint.digests(directory))
    checkpoint.write(directory, own)
    return directory


@pytest.fixture
def few_positions(tmp_path, tokenizer, make_complete, copy_with):
    """A member that promises 512 tokens and has positions for 64, so that its forward raises."""
    torch.manual_seed(0)
    config = GPT2Config(**GPT2 | {"vocab_size": len(tokenizer), "n_positions": 64})
    plain = tmp_path / "plain"
    AutoModelForSequenceClassification.from_config(config).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    return copy_with(make_complete(plain, max_tokens=64), tmp_path / "broken", max_tokens=512)


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ("nan_head", ("non-finite", "non-finite")),
        ("few_positions", ("engine-fault", "quarantined")),
    ],
)
async def test_a_member_that_breaks_is_missing_from_the_reward(
    serve, tmp_path, members, request, fault, kinds
):
    broken = request.getfixturevalue(fault)
    path = tmp_path / "ens.yaml"
    path.write_text(f"members: {[str(broken), *map(str, members[1:])]}\nmin_members: 2\n")
    async with serve(models=[path]) as client:
        answer, again = [await ask(client, [LONG]) for _ in range(2)]
    assert answer["items"][0]["failed"]["broken"]["type"] == kinds[0]
    assert answer["rewards"][0] == answer["mean"][0] is not None
    assert answer["member_scores"][0][0] is None
    # What the others scored is cached; what failed a forward is not tried again at once.
    assert again["items"][0]["failed"]["broken"]["type"] == kinds[1]
    assert again["items"][0]["cached"]
    assert again["usage"]["cached"] == 1
    assert again["usage"]["computed_tokens"] == answer["usage"]["tokens"] // 3


async def test_a_member_that_needs_the_length_is_missing_where_an_item_hides_it(
    serve, tmp_path, members, copy_with
):
    curve = Calibration("length", mean=0.5, std=2.0, curve=((1.0, 2.0), (11.0, 4.0)))
    curved = copy_with(members[0], tmp_path / "curved", calibration=curve)
    path = tmp_path / "ens.yaml"
    path.write_text(f"members: [{curved}, {members[1]}]\nmin_members: 1\n")
    async with serve(models=[path]) as client:
        answer = await ask(client, [{"token_ids": [5, 6, 7]}, SHORT[0]])
    assert answer["items"][0]["failed"]["curved"]["type"] == "no-response"
    assert answer["member_scores"][0][0] is None
    assert answer["rewards"][0] is not None
    assert "failed" not in answer["items"][1]


@pytest.mark.parametrize("count", ["0", "4", "-1", "1.5", "two", "true"])
def test_min_members_beyond_the_members_is_refused(tmp_path, file, members, count):
    with pytest.raises(CheckpointError, match=r"ens\.yaml: .*min_members"):
        sources(Settings(models=[file(f"min_members: {count}")], _cli_parse_args=False))
    config = tmp_path / "models.yaml"
    config.write_text(
        f"models: {{a: {members[0]}}}\nensembles: {{e: {{members: [a], min_members: {count}}}}}\n"
    )
    with pytest.raises(SettingsError, match=r"models\.yaml: .*min_members"):
        sources(Settings(config=config, _cli_parse_args=False))


def test_the_client_says_degraded_if_any_of_its_batches_is(listen, file):
    items = [SHORT[0], SHORT[1], LONG]
    with (
        listen(models=[file("min_members: 2")]) as url,
        RewardClient(url, batch_items=2) as client,
    ):
        found = client.ensemble_score(items)
        whole = client.ensemble_score(SHORT)
        listed = client.models()
    assert (found.degraded, whole.degraded) == (True, False)
    assert found.items[2].failed["short0"].type == "too-long"
    assert found.member_scores[2][0] is None
    assert found.centre is None
    found.raise_for_errors()  # a reward without a member is a reward
    assert listed[-1].min_members == 2
