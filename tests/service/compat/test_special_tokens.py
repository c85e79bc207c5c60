"""Templated text gets no second BOS, loses one that it has too many, and the answer says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.conversation import Around, Encoder
from plaudit.wire import Item
from service.compat.special_tokens import unprefixed, with_one_bos
from service.problems import Failure

LLAMA, BERT, NONE = Around("<s>", ""), Around("[CLS]", "[SEP]"), Around("", "")


def texts(items):
    return [item.text for item in items]


@given(st.text(alphabet="sab <", min_size=1), st.integers(0, 3), st.booleans())
def test_a_text_never_has_two(body, count, add):
    ((item,), bos) = with_one_bos([Item(text="<s>" * count + body)], [LLAMA], add)
    assert item.text == ("<s>" if add or count else "") + body
    assert (bos.found, bos.kept, bos.stripped) == ([count], int(count == 1), int(count > 1))


class Copied(str):
    """A text that counts the copies made of it and of its copies."""

    copies = 0

    def __getitem__(self, at):
        Copied.copies += 1
        return Copied(super().__getitem__(at))


@given(st.text(alphabet="sab <"), st.integers(0, 1000), st.sampled_from(["<s>", "a", "ab"]))
def test_many_are_counted_without_a_copy_of_the_text_for_each(body, count, prefix):
    body = body.lstrip(prefix)  # of its letters, and so of the prefix too
    Copied.copies = 0
    assert unprefixed(Copied(prefix * count + body), prefix) == (count, body)
    assert Copied.copies == 1


@given(st.lists(st.text(min_size=1)))
def test_without_such_a_token_texts_stay_as_they_are(given_texts):
    items, bos = with_one_bos([Item(text=text) for text in given_texts], [NONE], False)
    assert texts(items) == given_texts
    assert (bos.kept, bos.stripped, str(bos)) == (0, 0, "")


def test_what_the_tokenizer_adds_is_added_once():
    given_items = [Item(text=text) for text in ("a", "[CLS]a", "[CLS]a[SEP]", "[CLS][CLS]a")]
    items, bos = with_one_bos(given_items, [BERT], add=True)
    assert texts(items) == ["[CLS]a[SEP]"] * 4
    assert bos.found == [0, 1, 1, 2]
    assert str(bos) == "kept=2, stripped=1"


def test_token_ids_and_messages_are_not_touched():
    given_items = [Item(token_ids=[1, 1, 5]), Item(prompt="<s><s>a", response="<s>")]
    items, bos = with_one_bos(given_items, [LLAMA], add=True)
    assert (items, bos.found) == (given_items, [0, 0])


def test_members_that_add_different_tokens_cannot_share_a_text():
    with pytest.raises(Failure, match="different special tokens"):
        with_one_bos([Item(text="a")], [LLAMA, BERT], add=True)
    items, _ = with_one_bos([Item(text="<s><s>a")], [BERT, LLAMA], add=False)
    assert texts(items) == ["<s>a"]


def test_a_tokenizer_says_what_it_adds(tokenizer, bos_checkpoint):
    assert Encoder(tokenizer, len(tokenizer), 100).around == Around("", "", "<|im_end|>")
    encoder = Encoder.load(bos_checkpoint, 100)
    assert encoder.around == Around("<|begin|>", "", "<|im_end|>")
    own = encoder.tokenizer("text").input_ids
    assert encoder.text("<|begin|>text") == own


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/get_reward", {"query": ["<|begin|>"]}),
        ("/get_reward", {"query": ["<|begin|><|begin|>"]}),
        ("/classify", {"input": ["<|begin|>"]}),
    ],
)
async def test_nothing_but_a_bos_is_an_empty_text(serve, bos_checkpoint, path, body):
    async with serve(models=[bos_checkpoint]) as client:
        response = await client.post(path, json=body)
    assert response.status_code in (400, 422)
    assert "item 0: empty" in response.text


async def test_a_doubled_bos_scores_as_one_and_is_said(serve, bos_checkpoint):
    twice, once = "<|begin|><|begin|>a", "<|begin|>a"
    async with serve(models=[bos_checkpoint]) as client:
        both = await client.post("/get_reward", json={"query": [twice, once, "a"]})
        own = await client.post("/score", json={"items": [{"text": once}, {"text": "a"}]})
        none = await client.post("/get_reward", json={"query": ["a"]})
    single, bare = own.json()["rewards"]
    assert both.json()["rewards"] == [single, single, bare]
    assert both.json()["extra_logs"]["bos"] == [2.0, 1.0, 0.0]
    assert both.headers["x-plaudit-bos"] == "kept=1, stripped=1"
    assert "x-plaudit-bos" not in none.headers
