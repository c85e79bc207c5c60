"""Conversations to token ids."""

from copy import deepcopy

import pytest
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from plaudit.conversation import ConversationError, Encoder, TokenSequence

USER = {"role": "user", "content": "Hi"}
ASSISTANT = {"role": "assistant", "content": "Hello"}


@pytest.fixture
def encoder(tokenizer) -> Encoder:
    return Encoder(tokenizer, vocab_size=len(tokenizer), max_tokens=8)


@pytest.fixture
def bos_encoder(tokenizer) -> Encoder:
    """A tokenizer that adds BOS to any text, whose template writes BOS too."""
    eager = deepcopy(tokenizer)
    eager.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    assert eager("x").input_ids[0] == 1
    return Encoder(eager, vocab_size=len(eager), max_tokens=64)


def test_a_pair_is_the_conversation_of_its_two_halves(encoder):
    assert encoder.pair("Hi", "Hello") == encoder.messages([USER, ASSISTANT])
    assert encoder.pair([USER], "Hello") == encoder.messages([USER, ASSISTANT])


def test_a_conversation_is_its_template_as_text(encoder):
    text = "<|im_start|>user\nHi<|im_end|><|im_start|>assistant\nHello<|im_end|>"
    assert encoder.messages([USER, ASSISTANT]) == encoder.text(text)
    assert encoder.tokenizer.decode(encoder.text(text)) == text


def test_bos_is_not_doubled(bos_encoder, tokenizer):
    ids = bos_encoder.pair("Hi", "Hello")
    assert ids == Encoder(tokenizer, len(tokenizer), 64).pair("Hi", "Hello")
    assert ids[0] == 1
    assert ids[1] != 1


def test_what_fits_is_left_alone(encoder):
    ids = list(range(8))
    assert encoder.fit(ids, "error") == TokenSequence(ids, truncated=0)


@pytest.mark.parametrize(
    ("truncation", "kept"), [("left", [3, 4, 5, 6, 7, 8, 9, 10]), ("right", list(range(8)))]
)
def test_truncation_cuts_at_the_named_side(encoder, truncation, kept):
    assert encoder.fit(list(range(11)), truncation) == TokenSequence(kept, truncated=3)


def test_too_long_is_an_error_unless_asked_otherwise(encoder):
    with pytest.raises(ConversationError, match="11 tokens, the limit is 8") as caught:
        encoder.fit(list(range(11)), "error")
    assert caught.value.kind == "too-long"


def test_given_ids_are_unchanged(encoder):
    last = encoder.vocab_size - 1
    assert encoder.check_ids([0, 1, last]) == [0, 1, last]


@pytest.mark.parametrize("outside", [-1, 259])
def test_ids_outside_the_vocabulary_are_refused(encoder, outside):
    assert encoder.vocab_size == 259
    with pytest.raises(ConversationError, match=rf"token_ids\[1\] is {outside}") as caught:
        encoder.check_ids([5, outside])
    assert caught.value.kind == "token-out-of-range"


@pytest.mark.parametrize(
    ("method", "given", "kind"),
    [
        ("check_ids", [], "empty"),
        ("text", "", "empty"),
        ("messages", [USER, {"role": "assistant", "content": ""}], "empty"),
        ("messages", [], "no-response"),
        ("messages", [USER], "no-response"),
    ],
)
def test_nothing_to_judge_is_refused(encoder, method, given, kind):
    with pytest.raises(ConversationError) as caught:
        getattr(encoder, method)(given)
    assert caught.value.kind == kind


def test_text_that_becomes_no_token_is_refused(tokenizer):
    stripping = deepcopy(tokenizer)
    stripping.backend_tokenizer.normalizer = normalizers.Strip()
    with pytest.raises(ConversationError, match="no tokens") as caught:
        Encoder(stripping, len(stripping), 8).text("  ")
    assert caught.value.kind == "empty"


def test_messages_need_a_template_and_text_does_not(tokenizer):
    bare = deepcopy(tokenizer)
    bare.chat_template = None
    encoder = Encoder(bare, len(bare), 8)
    with pytest.raises(ConversationError, match="send text or token_ids") as caught:
        encoder.messages([USER, ASSISTANT])
    assert caught.value.kind == "no-template"
    assert encoder.text("Hi")


def test_a_tokenizer_that_panics_refuses_the_text_and_not_the_request(tokenizer):
    fragile = deepcopy(tokenizer)
    fragile.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a|a)*$"), "isolated")
    encoder = Encoder(fragile, vocab_size=len(fragile), max_tokens=8192)
    for encode in (encoder.text, lambda text: encoder.pair("Hi", text)):
        with pytest.raises(ConversationError, match="tokenizer fails") as caught:
            encode("a" * 4000 + "!")
        assert caught.value.kind == "malformed"
    assert encoder.text("Hi")


def test_what_ends_the_program_is_no_error_of_a_text(tokenizer, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tokenizer), "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Encoder(tokenizer, vocab_size=9, max_tokens=8).text("Hi")
