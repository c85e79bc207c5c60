"""Rerank of responses to a prompt: sorted, numbered, cut, in the words of each server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.compat.ranking import ranked

DOCUMENTS = ["Hello!", "Go away.", "Hi there, what can I do for you?", "Hello!"]
ROUTES = ["/rerank", "/v1/rerank", "/v2/rerank"]


@given(st.lists(st.none() | st.floats(-3, 3)))
def test_ranks_are_the_highest_first_ties_by_place_and_null_last(numbers):
    found = ranked(numbers)
    assert sorted(found, key=lambda one: one[0]) == [*enumerate(numbers)]
    given_out = [(i, n) for i, n in found if n is not None]
    assert given_out == sorted(given_out, key=lambda one: (-one[1], one[0]))
    assert [n for _, n in found[len(given_out) :]] == [None] * numbers.count(None)


@pytest.mark.parametrize("route", ROUTES)
async def test_the_best_come_first_with_their_places(serve, tiny_checkpoint, route):
    body = {"query": "Hi", "documents": DOCUMENTS, "top_n": 3}
    group = {"groups": [{"prompt": "Hi", "responses": DOCUMENTS}]}
    async with serve(models=[tiny_checkpoint]) as client:
        results = (await client.post(route, json=body)).json()["results"]
        own = (await client.post("/score", json=group)).json()
    scores = [item["score"] for item in own["items"]]
    order = sorted(range(4), key=lambda i: (-scores[i], i))[:3]
    assert [one["index"] for one in results] == order
    assert [one["relevance_score"] for one in results] == [scores[i] for i in order]
    assert [one["document"]["text"] for one in results] == [DOCUMENTS[i] for i in order]


async def test_an_ensemble_ranks_by_its_own_aggregate(serve, ensemble_file):
    group = {"groups": [{"prompt": "Hi", "responses": DOCUMENTS[:3]}]}
    async with serve(models=[ensemble_file]) as client:
        answer = await client.post("/v2/rerank", json={"query": "Hi", "documents": DOCUMENTS[:3]})
        own = (await client.post("/ensemble_score", json=group)).json()
    results = answer.json()["results"]
    assert [one["relevance_score"] for one in results] == sorted(own["rewards"], reverse=True)
    assert answer.json()["usage"]["prompt_tokens"] == sum(item["tokens"] for item in own["items"])
    assert answer.headers["x-plaudit-revision"] == own["revision"]


async def test_a_response_that_has_no_score_is_last_where_the_policy_is_null(
    serve, tiny_checkpoint
):
    body = {"query": "Hi", "documents": ["", *DOCUMENTS]}
    async with serve(models=[tiny_checkpoint], compat_on_error="cohere=null") as client:
        results = (await client.post("/v2/rerank", json=body)).json()["results"]
        texts = {"query": "Hi", "texts": ["", "x"]}
        failed = await client.post("/rerank", json=texts)
    assert (results[-1]["index"], results[-1]["relevance_score"]) == (0, None)
    assert len(results) == 5
    assert failed.status_code == 400  # of TEI's clients the policy is another


REFUSED = [
    ({"documents": []}, "documents"),
    ({"documents": "one"}, "documents"),
    ({"documents": [{"title": "a"}]}, "documents"),
    ({"documents": ["a", ""]}, "item 1: empty"),
    ({"top_n": -1}, "top_n"),
    ({"max_tokens_per_doc": 10}, "max_tokens_per_doc"),
    ({"max_chunks_per_doc": 10}, "max_chunks_per_doc"),
    ({"rank_fields": ["title"]}, "rank_fields"),
    ({"instruction": "be nice"}, "instruction"),
    ({"use_activation": True}, "use_activation"),
    ({"relevant_spans": {}}, "relevant_spans"),
    ({"raw_scores": True}, "raw_scores"),
    ({"query": None}, "query"),
]


async def test_what_is_not_done_is_refused_by_name(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        for more, named in REFUSED:
            body = {"query": "Hi", "documents": DOCUMENTS, **more}
            answer = await client.post("/v2/rerank", json=body)
            assert answer.status_code == 400, more
            assert named in answer.json()["message"]
            assert answer.json()["error"]["message"] == answer.json()["message"]


async def test_a_model_without_a_template_says_so(serve, tmp_path, tokenizer, save_plain):
    plain = save_plain(tmp_path / "plain", tokenizer, seed=3)
    (plain / "chat_template.jinja").unlink()
    async with serve(models=[plain]) as client:
        answer = await client.post("/v1/rerank", json={"query": "Hi", "documents": DOCUMENTS})
    assert answer.status_code == 400
    assert "no-template" in answer.json()["message"]
