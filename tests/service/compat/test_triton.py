"""Triton's own HTTP client against a live server, and hostile tensors."""

import json

import httpx2
import numpy as np
import pytest

INFER = "/v2/models/reward_model/infer"
SENTENCES = ["Eight minutes.", "Ünïcode, and so: ä漢", "x"]
TOKENS = [[10, 11, 12, 13], [20, 21, 0, 0]]


@pytest.fixture
def triton():
    reason = "tritonclient is not installed: pip install 'plaudit[dev]'"
    return pytest.importorskip("tritonclient.http", reason=reason)


def own(url: str, items: list[object]) -> list[float]:
    return httpx2.post(f"{url}/score", json={"items": items}, timeout=30).json()["rewards"]


def given(triton, name: str, values: np.ndarray, binary: bool):
    datatype = "BYTES" if values.dtype == object else "INT64"
    one = triton.InferInput(name, values.shape, datatype)
    one.set_data_from_numpy(values, binary_data=binary)
    return one


@pytest.mark.parametrize("binary", [True, False])
def test_its_client_gets_the_rewards_of_score(listen, triton, tiny_checkpoint, binary):
    sentences = np.array([[text.encode()] for text in SENTENCES], object)
    tokens, lengths = np.array(TOKENS, np.int64), np.array([[4], [2]], np.int64)
    with listen(models=[tiny_checkpoint]) as url:
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        outputs = [triton.InferRequestedOutput("rewards", binary_data=binary)]
        read = client.infer(
            "reward_model", [given(triton, "sentences", sentences, binary)], outputs=outputs
        )
        scored = client.infer(
            "reward_model",
            [
                given(triton, "tokens", tokens, binary),
                given(triton, "sequence_lengths", lengths, binary),
            ],
        )
        texts = own(url, [{"text": text} for text in SENTENCES])
        ids = own(url, [{"token_ids": TOKENS[0]}, {"token_ids": TOKENS[1][:2]}])
        client.close()
    assert read.as_numpy("rewards").dtype == np.float32
    np.testing.assert_allclose(read.as_numpy("rewards"), np.array(texts)[:, None], rtol=1e-6)
    np.testing.assert_allclose(scored.as_numpy("rewards"), np.array(ids)[:, None], rtol=1e-6)


def test_its_client_finds_the_server_and_its_models(listen, triton, ensemble_file, members):
    with listen(models=[ensemble_file], api_keys="sesame") as url:
        client = triton.InferenceServerClient(url.removeprefix("http://") + "/k/sesame")
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.get_server_metadata()["name"] == "plaudit"
        for name in ("reward_model", "ens", members[1].name):
            assert client.is_model_ready(name)
            assert client.get_model_metadata(name)["outputs"][0]["name"] == "rewards"
            assert client.get_model_config(name)["max_batch_size"] > 1
        assert not client.is_model_ready("other")
        with pytest.raises(triton.InferenceServerException, match="unknown-model"):
            client.get_model_metadata("other")
        client.close()


def test_its_client_reads_what_is_wrong(listen, triton, tiny_checkpoint):
    empty = np.array([[b"fine"], [b""]], object)
    with listen(models=[tiny_checkpoint]) as url:
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        with pytest.raises(triton.InferenceServerException, match="item 1: empty") as caught:
            client.infer("reward_model", [given(triton, "sentences", empty, True)])
        client.close()
    assert caught.value.status() == "400"


def test_a_reward_that_is_null_is_nan(listen, triton, tiny_checkpoint):
    empty = np.array([[b"fine"], [b""]], object)
    with listen(models=[tiny_checkpoint], compat_on_error="triton=null") as url:
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        for binary in (True, False):
            answer = client.infer(
                "reward_model",
                [given(triton, "sentences", empty, binary)],
                outputs=[triton.InferRequestedOutput("rewards", binary_data=binary)],
            )
            assert np.isnan(answer.as_numpy("rewards").ravel()).tolist() == [False, True]
        client.close()


def tensor(name: str, datatype: str, shape: list[int], **rest: object) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": shape, **rest}


LENGTHS = tensor("sequence_lengths", "INT64", [1], data=[2])
BAD = [
    [],
    [tensor("sentences", "BYTES", [2, 1], data=["a"])],
    [tensor("sentences", "BYTES", [1, 1, 1], data=["a"])],
    [tensor("sentences", "BYTES", [], data=["a"])],
    [tensor("sentences", "BYTES", [-1, -1], data=["a"])],
    [tensor("sentences", "BYTES", [0, 2**70], data=[])],
    [tensor("sentences", "BYTES", [1], data=[5])],
    [tensor("sentences", "BYTES", [1], data=[[["a"]]])],
    [tensor("sentences", "INT64", [1], data=["a"])],
    [tensor("sentences", "FP32", [1], data=[1.0])],
    [tensor("sentences", "BYTES", [1, 2], data=["a", "b"])],
    [tensor("other", "BYTES", [1], data=["a"])],
    [tensor("tokens", "INT64", [1, 2], data=[1, 2])],
    [tensor("tokens", "INT64", [1, 1], data=[1]), LENGTHS],
    [tensor("tokens", "INT64", [2], data=[1, 2]), LENGTHS],
    [tensor("tokens", "INT64", [2, 2], data=[1, 2, 3, 4]), LENGTHS],
    [tensor("tokens", "INT64", [1, 2], data=[1, 2**63]), LENGTHS],
    [tensor("tokens", "INT64", [1, 2], data=[1, 2.5]), LENGTHS],
    [tensor("sentences", "BYTES", [1], parameters={"binary_data_size": 9})],
    [tensor("sentences", "BYTES", [1], parameters={"binary_data_size": -1})],
    [tensor("sentences", "BYTES", [1], parameters={"binary_data_size": "4"})],
]


@pytest.mark.parametrize("inputs", BAD)
async def test_tensors_that_do_not_fit_are_refused(serve, tiny_checkpoint, inputs):
    async with serve(models=[tiny_checkpoint]) as client:
        response = await client.post(INFER, json={"inputs": inputs})
    assert response.status_code == 400
    assert response.json()["error"].startswith("malformed: ")


@pytest.mark.parametrize(
    "binary",
    [b"", b"\x05\0\0\0four", b"\x01\0\0", b"\x01\0\0\0\xff", b"\x04\0\0\0four more than said"],
)
async def test_binary_data_that_does_not_fit_is_refused(serve, tiny_checkpoint, binary):
    size = {"binary_data_size": min(len(binary), 8)}
    head = json.dumps({"inputs": [tensor("sentences", "BYTES", [1], parameters=size)]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    async with serve(models=[tiny_checkpoint]) as client:
        response = await client.post(INFER, content=head + binary, headers=headers)
        late = {"Inference-Header-Content-Length": str(len(head + binary) + 1)}
        past = await client.post(INFER, content=head + binary, headers=late)
    assert (response.status_code, past.status_code) == (400, 400)


async def test_several_binary_tensors_follow_each_other(serve, tiny_checkpoint):
    tokens, lengths = np.array(TOKENS, "<i8").tobytes(), np.array([4, 2], "<i8").tobytes()
    inputs = [
        tensor("tokens", "INT64", [2, 4], parameters={"binary_data_size": len(tokens)}),
        tensor("sequence_lengths", "INT64", [2], parameters={"binary_data_size": len(lengths)}),
    ]
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post(INFER, content=head + tokens + lengths, headers=headers)
        more = await client.post(INFER, content=head + tokens + lengths + b"x", headers=headers)
    assert (answer.status_code, more.status_code) == (200, 400)


@pytest.mark.parametrize("length", ["", "-1", "9" * 5000, "x", "1.0"])
async def test_a_header_that_is_no_length_is_refused(serve, tiny_checkpoint, length):
    async with serve(models=[tiny_checkpoint]) as client:
        headers = {"Inference-Header-Content-Length": length}
        response = await client.post(INFER, content=b"{}", headers=headers)
    assert response.status_code == 400


async def test_an_output_that_there_is_not_is_refused(serve, tiny_checkpoint):
    body = {"inputs": [tensor("sentences", "BYTES", [1], data=["a"])], "outputs": [{"name": "v"}]}
    async with serve(models=[tiny_checkpoint]) as client:
        assert (await client.post(INFER, json=body)).status_code == 400


async def test_no_sentences_have_no_rewards(serve, tiny_checkpoint):
    body = {"inputs": [tensor("sentences", "BYTES", [0, 1], data=[])]}
    async with serve(models=[tiny_checkpoint]) as client:
        (rewards,) = (await client.post(INFER, json=body)).json()["outputs"]
    assert (rewards["shape"], rewards["data"]) == ([0, 1], [])
