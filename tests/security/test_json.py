"""S6, S7, S10 and S11: what a body may hold, down to an item; none of it harms another's."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit import checkpoint
from plaudit.calibration import Calibration
from plaudit.conversation import Encoder
from plaudit.joint_model import JointModel
from plaudit.wire import EnsembleRequest, ScoreRequest
from service.bodies import decode
from service.compat import peers
from service.problems import Failure

GOOD = {"token_ids": [5, 6, 7]}
TYPES = [ScoreRequest, EnsembleRequest, *(
    one for route in peers.ROUTES if route.asks
    for one in (route.asks if isinstance(route.asks, tuple) else (route.asks,))
)]  # fmt: skip
WRONG_BYTES = {
    "deep lists": b"[" * 100_000,
    "deep lists in an item": b'{"items": [{"token_ids": ' + b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and whole": b'{"items": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "deep where it is skipped": b'{"nothing": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number over every float": b'{"items": [{"token_ids": [1e999]}]}',
    "NaN": b'{"items": [{"token_ids": [NaN]}]}',
    "NaN as weight": b'{"items": [], "weights": {"a": NaN}}',
    "Infinity": b'{"items": [], "max_tokens": Infinity}',
    "a lone surrogate": b'{"items": [{"text": "\\ud800"}]}',
    "a surrogate of UTF-8": b'{"items": [{"text": "\xed\xa0\x80"}]}',
    "half a character": b'{"items": [{"text": "\xc3"}]}',
    "an overlong character": b'{"items": [{"text": "\xc0\xaf"}]}',
    "a byte order mark": b'\xef\xbb\xbf{"items": []}',
    "UTF-16": '{"items": []}'.encode("utf-16"),
    "a control character": b'{"items": [{"text": "\x01"}]}',
    "single quotes": b"{'items': []}",
    "a comma too many": b'{"items": [],}',
    "two bodies": b'{"items": []}{"items": []}',
    "a comment": b'{"items": [] /* none */}',
    "a pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x04evil\x94.",
}
WRONG_ITEMS = {
    "an id that is a float": {"token_ids": [5.5]},
    "an id that is a bool": {"token_ids": [True]},
    "an id that is a text": {"token_ids": ["5"]},
    "an id that is nothing": {"token_ids": [None]},
    "ids in ids": {"token_ids": [[5]]},
    "a tensor": {"text": "x", "prompt_embeds": "gAQ="},
    "a template": {"prompt": "a", "response": "b", "chat_template": "{{ x }}"},
    "words for a template": {"prompt": "a", "response": "b", "chat_template_kwargs": {"x": 1}},
    "a role of its own": {"messages": [{"role": "tool", "content": "x"}]},
    "a field of a message": {"messages": [{"role": "user", "content": "x", "name": "y"}]},
}
WRONG_FIELDS = {
    "chat_template": "{{ x }}", "chat_template_kwargs": {"x": 1}, "trust_remote_code": True,
    "model": 5, "max_tokens": -1, "truncation": None, "weights": {"a": -1}, "weights ": {},
    "revision": ["sha256:"],
}  # fmt: skip


@pytest.fixture
def client(serve: Callable[..., Any], tiny_checkpoint: Path) -> Any:
    return serve(models=[tiny_checkpoint])


async def test_bytes_that_are_no_request_are_one_problem_each(client: Any) -> None:
    async with client as service:
        for path in ("/score", "/ensemble_score"):
            for name, body in WRONG_BYTES.items():
                answer = await service.post(path, content=body)
                assert answer.status_code == 422, name
                assert answer.json()["type"].endswith("#malformed"), name


async def test_an_item_of_another_shape_refuses_the_body_and_names_the_place(client: Any) -> None:
    async with client as service:
        for name, item in WRONG_ITEMS.items():
            answer = await service.post("/score", json={"items": [GOOD, item]})
            assert answer.status_code == 422, name
            assert "items[1]" in answer.json()["detail"] or "items[...]" in answer.json()["detail"]
        for name, value in WRONG_FIELDS.items():
            answer = await service.post("/score", json={"items": [GOOD], name: value})
            assert answer.status_code == 422, name


async def test_no_route_takes_a_template_with_a_request(client: Any) -> None:
    """Those of other servers, whose fields are not all refused, do as if it were not there."""
    escape = "{{ ''.__class__.__mro__ }}"
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    async with client as service:
        for path in ("/pooling", "/classify"):
            plain = await service.post(path, json={"messages": messages})
            asked = await service.post(
                path, json={"messages": messages, "chat_template": escape,
                            "chat_template_kwargs": {"x": escape}},
            )  # fmt: skip
            assert asked.status_code in (200, 400, 422)
            if asked.status_code == 200:
                assert asked.json()["data"] == plain.json()["data"]


@pytest.mark.parametrize(
    "ids", [[-1], [2**31], [2**32 + 5], [2**63], [-(2**63)], [10**30], [5, 10**6]], ids=str
)
async def test_an_id_outside_the_vocabulary_is_an_error_of_its_item_alone(
    client: Any, tiny_checkpoint: Path, ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = Encoder.load(tiny_checkpoint, 8).vocab_size
    seen: list[int] = []
    whole = JointModel.compute

    def watched(self: JointModel, asked: Any) -> Any:
        seen.extend(token for one in asked for token in one.ids)
        return whole(self, asked)

    async with client as service:
        monkeypatch.setattr(JointModel, "compute", watched)
        items = [GOOD, {"token_ids": ids}, {"token_ids": [vocabulary]}, GOOD]
        answer = (await service.post("/score", json={"items": items})).json()
    types = [item.get("error", {}).get("type") for item in answer["items"]]
    assert types == [None, "token-out-of-range", "token-out-of-range", None]
    assert answer["rewards"][0] == answer["rewards"][3] is not None
    assert set(seen) == {5, 6, 7}


async def test_the_last_of_two_keys_counts_wherever_the_body_is_read(client: Any) -> None:
    """As for every common reader of JSON: whoever looked at the body before us saw the same."""
    body = b'{"items": [{"token_ids": [5], "token_ids": [6, 7, 8]}], "items": [{"token_ids": [6]}]}'
    async with client as service:
        twice = (await service.post("/score", content=body)).json()
        once = (await service.post("/score", json=json.loads(body))).json()
    assert twice["rewards"] == once["rewards"]


def refusal(body: bytes, kind: Any, detailed: bool = False) -> str | None:
    """The kind of the Failure that a body ends in, with its detail if that is asked for."""
    try:
        decode(msgspec.json.Decoder(kind), body)
    except Failure as failure:
        return f"{failure.kind} {failure.detail}" if detailed else failure.kind
    return None


@given(st.binary(max_size=200), st.sampled_from(TYPES))
def test_any_bytes_are_a_request_or_malformed(body: bytes, kind: Any) -> None:
    assert refusal(body, kind) in (None, "malformed")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["items", "prompt", "response", "text", "token_ids", "role", "groups"])
        | st.text(max_size=4),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(values, st.sampled_from(TYPES))
def test_any_json_is_a_request_or_malformed_and_quotes_no_text(value: Any, kind: Any) -> None:
    marked = json.dumps({"items": [value], "x": "ZEBRA crossing", "ZEBRA key": 1}).encode()
    for body in (json.dumps(value).encode(), marked):
        kind_of, _, detail = (refusal(body, kind, detailed=True) or "malformed").partition(" ")
        assert kind_of == "malformed"
        assert "ZEBRA" not in detail


def broken(value: float, only: Callable[[Any], bool]) -> Callable[..., Any]:
    """``JointModel.compute`` that gives ``value`` for some sequences."""
    whole = JointModel.compute

    def compute(self: JointModel, asked: Any) -> Any:
        computed = whole(self, asked)
        computed.scores[[only(one) for one in asked]] = value
        return computed

    return compute


NOT_FINITE = [math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", NOT_FINITE, ids=str)
async def test_a_score_that_is_not_finite_is_its_items_error_and_is_not_kept(
    client: Any, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [GOOD, {"token_ids": [9, 9]}, {"token_ids": [8]}]
    async with client as service:
        with monkeypatch.context() as patched:
            broken_compute = broken(value, lambda one: 9 in one.ids)
            patched.setattr(JointModel, "compute", broken_compute)
            first = (await service.post("/score", json={"items": items})).json()
        mended = (await service.post("/score", json={"items": items})).json()
        metrics = (await service.get("/metrics")).text
    assert first["items"][1]["error"]["type"] == "non-finite"
    assert first["rewards"][1] is None
    assert [first["rewards"][i] for i in (0, 2)] == [mended["rewards"][i] for i in (0, 2)]
    assert None not in mended["rewards"]
    assert [item["cached"] for item in mended["items"]] == [True, False, True]
    assert "plaudit_nonfinite_total" in metrics


@pytest.mark.parametrize("value", NOT_FINITE, ids=str)
async def test_one_member_that_is_not_finite_is_never_averaged_in(
    serve: Callable[..., Any], ensemble_file: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [GOOD, {"token_ids": [9, 9]}]
    async with serve(models=[ensemble_file]) as service:
        with monkeypatch.context() as patched:
            patched.setattr(
                JointModel, "compute", broken(value, lambda one: 9 in one.ids and one.member == 0)
            )
            answer = (await service.post("/ensemble_score", json={"items": items})).json()
    assert answer["items"][1]["error"]["type"] == "non-finite"
    assert answer["rewards"][0] is not None
    assert answer["rewards"][1] is answer["mean"][1] is None


@pytest.mark.parametrize("route", ["/score", "/ensemble_score"])
async def test_a_calibration_that_is_not_finite_gives_no_reward(
    serve: Callable[..., Any], tiny_checkpoint: Path, tmp_path: Path, route: str
) -> None:
    """A deviation so small that a reward leaves the range of floats."""
    directory = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    manifest, _ = checkpoint.read(directory)
    calibration = Calibration("standardise", mean=-1e308, std=5e-324)
    checkpoint.write(directory, msgspec.structs.replace(manifest, calibration=calibration))
    (tmp_path / "ens.yaml").write_text("members: [copy]\n")
    async with serve(models=[tmp_path / "ens.yaml"]) as service:
        answer = (await service.post(route, json={"items": [GOOD]})).json()
    assert answer["rewards"] == [None]
    assert answer["items"][0]["error"]["type"] == "non-finite"


@pytest.mark.parametrize(
    "template",
    ["{{ 1 // 0 }}", "{{ 'a' + 1 }}", "{{ messages[0].content | int + none }}",
     "{{ range(10**9) | list }}", "{{ messages.pop() }}", "{{ {}['a'].b.c }}",
     "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"],
)  # fmt: skip
def test_a_template_that_fails_refuses_the_item_and_not_the_request(
    tiny_checkpoint: Path, template: str
) -> None:
    encoder = Encoder.load(tiny_checkpoint, 512)
    encoder.tokenizer.chat_template = template
    with pytest.raises(ValueError, match="the model's chat template") as caught:
        encoder.pair("Hi", "Hello")
    assert getattr(caught.value, "kind", None) == "malformed"
