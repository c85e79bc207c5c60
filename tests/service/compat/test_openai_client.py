"""OpenAI's own Python client against a live server."""

import httpx2
import pytest

openai = pytest.importorskip("openai", reason="openai is not installed: pip install 'plaudit[dev]'")

TEXTS = ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!", "Ünïcode 漢"]
IDS = [[5, 6, 7, 8], [9, 10]]


def scores(url: str, items: list[dict]) -> list[float]:
    answer = httpx2.post(f"{url}/score", json={"items": items}, timeout=30)
    return [item["score"] for item in answer.json()["items"]]


@pytest.mark.parametrize("how", [{}, {"encoding_format": "float"}])
def test_embeddings_are_the_scores_in_base64_too(listen, tiny_checkpoint, how):
    """Unless told it asks for base64, and reads that with numpy."""
    name = tiny_checkpoint.name
    with (
        listen(models=[tiny_checkpoint]) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
    ):
        texts = client.embeddings.create(model=name, input=TEXTS, **how)
        ids = client.embeddings.create(model=name, input=IDS, user="u", **how)
        one = client.embeddings.create(model=name, input=TEXTS[0], **how)
        own = scores(url, [{"text": text} for text in TEXTS])
        of_ids = scores(url, [{"token_ids": tokens} for tokens in IDS])
    assert [data.embedding for data in texts.data] == [[score] for score in own]
    assert [data.embedding for data in ids.data] == [[score] for score in of_ids]
    assert one.data[0].embedding == [own[0]]
    assert ids.usage.prompt_tokens == ids.usage.total_tokens == 6
    assert (texts.model, texts.object) == (name, "list")


def test_models_are_found(listen, ensemble_file):
    with (
        listen(models=[ensemble_file], api_keys="sesame") as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="sesame", max_retries=0) as client,
    ):
        listed = [model.id for model in client.models.list()]
        assert "ens" in listed
        assert client.models.retrieve("ens").object == "model"
        with pytest.raises(openai.NotFoundError, match="no model 'other'"):
            client.models.retrieve("other")


def test_failures_are_its_own_exceptions(listen, tiny_checkpoint):
    with listen(models=[tiny_checkpoint], api_keys="sesame") as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="sesame", max_retries=0) as client:
            with pytest.raises(openai.BadRequestError, match="at least one prompt"):
                client.embeddings.create(model="m0", input=[])
            with pytest.raises(openai.BadRequestError, match="item 1: empty") as caught:
                client.embeddings.create(model="m0", input=["fine", ""])
            with pytest.raises(openai.NotFoundError):
                client.embeddings.create(model="other", input="x")
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError, match="no accepted key"),
        ):
            client.embeddings.create(model="m0", input="x")
    assert caught.value.body["type"] == "BadRequestError"
