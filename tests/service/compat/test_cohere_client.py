"""Cohere's own Python client against a live server."""

import httpx2
import pytest

cohere = pytest.importorskip("cohere", reason="cohere is not installed: pip install 'plaudit[dev]'")

RESPONSES = ["Hello!", "Go away.", "Hi there, what can I do for you?"]


@pytest.fixture
def ranking(tiny_checkpoint):
    """``ranking(url)``: places and scores by /score, the highest first."""

    def find(url: str, **headers: str) -> list[tuple[int, float]]:
        body = {"groups": [{"prompt": "Hi", "responses": RESPONSES}]}
        answer = httpx2.post(f"{url}/score", json=body, headers=headers, timeout=30)
        scores = [item["score"] for item in answer.json()["items"]]
        return sorted(enumerate(scores), key=lambda one: -one[1])

    return find


def test_both_of_its_clients_rank_as_score_does(listen, tiny_checkpoint, ranking):
    asked = {"model": tiny_checkpoint.name, "query": "Hi", "documents": RESPONSES}
    with listen(models=[tiny_checkpoint], api_keys="sesame") as url:
        with httpx_client() as http:
            first = cohere.Client("sesame", base_url=url, httpx_client=http)
            second = cohere.ClientV2("sesame", base_url=url, httpx_client=http)
            old = first.rerank(**asked, return_documents=True)
            best = second.rerank(**asked, top_n=1)
        expected = ranking(url, authorization="Bearer sesame")
    assert [(one.index, one.relevance_score) for one in old.results] == expected
    assert [one.document.text for one in old.results] == [RESPONSES[i] for i, _ in expected]
    assert [(one.index, one.relevance_score) for one in best.results] == expected[:1]


def test_failures_are_its_own_exceptions(listen, tiny_checkpoint):
    with listen(models=[tiny_checkpoint]) as url, httpx_client() as http:
        client = cohere.ClientV2("any", base_url=url, httpx_client=http)
        with pytest.raises(cohere.BadRequestError) as caught:
            client.rerank(model="m0", query="Hi", documents=[])
        with pytest.raises(cohere.NotFoundError):
            client.rerank(model="other", query="Hi", documents=RESPONSES)
    assert "at least one" in caught.value.body["message"]


def httpx_client():
    """Its own is left open."""
    import httpx

    return httpx.Client(timeout=30)
