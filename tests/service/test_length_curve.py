"""A model whose rewards leave out what the response's length explains, served."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from plaudit import checkpoint
from plaudit.calibration import Calibration
from training.evaluate.command import main as evaluate
from training.length_bias.command import main as calibrate

CURVE = ((1.0, 2.0), (11.0, 4.0))
RESPONSES = ["4", "About.", "About five, I think: five."]
# Flat before one character and after eleven, 0.2 a character between.
EXPECTED = [2.0, 3.0, 4.0]
ITEMS = [{"prompt": "What is 2 + 2?", "response": response} for response in RESPONSES]


@pytest.fixture
def calibrated(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """The tiny checkpoint's twin with a length curve."""
    directory = tmp_path / "twin"
    shutil.copytree(tiny_checkpoint, directory)
    manifest, _ = checkpoint.read(tiny_checkpoint)
    curve = Calibration("length", mean=0.5, std=2.0, curve=CURVE)
    checkpoint.write(directory, msgspec.structs.replace(manifest, calibration=curve))
    return directory


@pytest.fixture
def ask(serve: Callable, calibrated: Path):
    async def _ask(*bodies: dict) -> list[dict]:
        async with serve(models=[calibrated]) as client:
            return [(await client.post("/score", json=body)).json() for body in bodies]

    return _ask


def expected_rewards(items: list[dict]) -> list[float]:
    return [
        (item["score"] - height - 0.5) / 2 for item, height in zip(items, EXPECTED, strict=True)
    ]


async def test_the_reward_leaves_out_what_the_length_explains(ask):
    groups = [{"prompt": "What is 2 + 2?", "responses": RESPONSES}]
    conversations = [
        {
            "messages": [
                {"role": "user", "content": "What is 2 + 2?"},
                {"role": "assistant", "content": response},
            ]
        }
        for response in RESPONSES
    ]
    # The second time the items are repeats, whose scores are cached.
    bodies = [{"items": ITEMS}, {"items": ITEMS}, {"groups": groups}, {"items": conversations}]
    answers = await ask(*bodies)
    for answer in answers:
        assert answer["rewards"] == pytest.approx(expected_rewards(answer["items"]))
    assert answers[1]["usage"]["cached"] == 3
    assert answers[1]["rewards"] == answers[0]["rewards"]


async def test_an_item_that_hides_its_response_has_an_error_and_no_reward(ask):
    blind = [{"text": "<|im_start|>user\nHi"}, {"token_ids": [5, 6, 7]}]
    (answer,) = await ask({"items": [*blind, ITEMS[0]]})
    assert answer["rewards"][:2] == [None, None]
    assert answer["rewards"][2] is not None
    assert [item["error"]["type"] for item in answer["items"][:2]] == ["no-response"] * 2
    assert "send prompt and response" in answer["items"][0]["error"]["detail"]


async def test_a_cut_response_has_its_whole_length(serve, calibrated):
    long = {"prompt": "Why?", "response": "Because. " * 400}
    async with serve(models=[calibrated]) as client:
        body = {"items": [long], "truncation": "right"}
        (item,) = (await client.post("/score", json=body)).json()["items"]
    assert item["truncated"] > 0
    assert item["reward"] == pytest.approx((item["score"] - 4.0 - 0.5) / 2)


async def test_members_of_an_ensemble_have_their_own_curves(
    serve, calibrated, tiny_checkpoint, tmp_path
):
    file = tmp_path / "both.yaml"
    file.write_text(f"members: [{tiny_checkpoint}, {calibrated}]\n")
    async with serve(models=[file]) as client:
        answer = (await client.post("/ensemble_score", json={"items": ITEMS})).json()
        blind = {"items": [{"token_ids": [5, 6, 7]}]}
        refused = (await client.post("/ensemble_score", json=blind)).json()
    (first, _), *_ = scores = answer["member_scores"]
    plain = [(score - 0.5) / 2 for score, _ in scores]
    curved = [
        (score - height - 0.5) / 2 for (_, score), height in zip(scores, EXPECTED, strict=True)
    ]
    assert answer["mean"] == pytest.approx(
        [(a + b) / 2 for a, b in zip(plain, curved, strict=True)]
    )
    assert first == pytest.approx(scores[0][1], abs=1e-5)  # one network, two calibrations
    assert refused["rewards"] == [None]


async def test_served_rewards_are_those_of_the_evaluation(
    serve, tiny_checkpoint, pairs_file, tmp_path
):
    data, twin, report = (str(tmp_path / name) for name in ("data.yaml", "twin", "report"))
    Path(data).write_text(json.dumps({"sources": [{"name": "demo", "path": str(pairs_file)}]}))
    given = ["--data", data, "--split", "all"]
    calibrate([str(tiny_checkpoint), *given, "--out", twin])
    evaluate([twin, *given, "--out", report, "--dtype", "float32"])
    lines = (Path(report) / "scores.jsonl").read_text().splitlines()
    expected = [reward for line in lines for reward in json.loads(line)["scores"]["twin"]]
    pairs = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    groups = [{"prompt": p["prompt"], "responses": [p["chosen"], p["rejected"]]} for p in pairs]
    async with serve(models=[twin]) as client:
        answer = (await client.post("/score", json={"groups": groups})).json()
    assert answer["rewards"] == pytest.approx(expected, abs=1e-5)


async def test_a_member_of_a_bundle_has_its_own_curve(serve, calibrated, tiny_checkpoint, tmp_path):
    file = tmp_path / "both.yaml"
    plain, curved = ({"member": str(m), "weight": w} for m, w in
                     ((tiny_checkpoint, 1.0), (calibrated, 0.5)))  # fmt: skip
    file.write_text(json.dumps({"objectives": {"plain": plain, "curved": curved}}))
    async with serve(models=[file]) as client:
        body = {"model": "both", "items": [*ITEMS, {"token_ids": [5, 6, 7]}]}
        answer = (await client.post("/score", json=body)).json()
    *scored, blind = answer["items"]
    assert blind["error"]["type"] == "no-response"
    curves = expected_rewards([{"score": item["scores"]["curved"]} for item in scored])
    assert [item["objectives"]["curved"] for item in scored] == pytest.approx(curves)
    sums = [i["objectives"]["plain"] + 0.5 * i["objectives"]["curved"] for i in scored]
    assert answer["rewards"][:-1] == pytest.approx(sums)


async def test_of_several_members_the_largest_cut_is_said(serve, make_complete, save_plain,
                                                         tokenizer, tmp_path):  # fmt: skip
    long = make_complete(save_plain(tmp_path / "long", tokenizer, 0), max_tokens=200)
    short = make_complete(save_plain(tmp_path / "short", tokenizer, 1), max_tokens=100)
    file = tmp_path / "both.yaml"
    file.write_text(f"members: [{long}, {short}]\n")
    item = {"prompt": "Why?", "response": "Because. " * 60}
    async with serve(models=[file]) as client:
        body = {"items": [item], "truncation": "left"}
        (answer,) = (await client.post("/ensemble_score", json=body)).json()["items"]
        alone = (await client.post("/score", json=body | {"model": "short"})).json()["items"]
    assert answer["truncated"] == alone[0]["truncated"] > 0
