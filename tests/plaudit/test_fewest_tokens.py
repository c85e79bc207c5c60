"""A text that is refused by its length alone would have been refused by its tokens."""

import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from plaudit import fewest_tokens
from plaudit.conversation import ConversationError, Encoder
from plaudit.fewest_tokens import BYTES

SMOL = Path(__file__).parents[2] / "models" / "smollm2-135m"
# Long tokens, and what they are made of.
WORDS = ("a", "aa", "ab " * 9, " " * 20, "é", "e\u0301", "\u1100\u1161\u11a8",
         "α\u0313\u0300\u0345", "日本", "😀", "<|im_end|>", "0123456789",
         "\n\n", "\x00")  # fmt: skip
SPLIT = pre_tokenizers.Split(Regex(r"\s+|\S+"), "isolated")


def trained(normalizer=None, *before, added=("<|im_end|>",), without="") -> PreTrainedTokenizerFast:
    """Byte-level BPE with merges of its own, as real ones are made, ``without`` some bytes."""
    backend = Tokenizer(models.BPE())
    if normalizer is not None:
        backend.normalizer = normalizer
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, byte_level])
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(without))
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(["ab " * 50, " " * 60, "aaaa" * 20, "日本日本" * 9] * 3, trainer)
    backend.add_special_tokens([AddedToken(one) if isinstance(one, str) else one for one in added])
    return PreTrainedTokenizerFast(tokenizer_object=backend)


TOLD = {
    "plain": trained(),
    "split": trained(None, SPLIT, pre_tokenizers.Digits(individual_digits=True)),
    "NFC": trained(normalizers.NFC(), SPLIT),
    "no token for NUL": trained(None, SPLIT, without=BYTES[0]),
    "a long special token": trained(added=("<" + "x" * 99 + ">",)),
}
texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=40).map("".join)


@pytest.mark.parametrize("name", TOLD)
@given(text=texts)
def test_no_text_has_fewer_tokens_than_its_length_tells(name: str, text: str) -> None:
    tokenizer = TOLD[name]
    told = fewest_tokens.bound(tokenizer)
    assert told is not None
    for repeats in (1, 40):
        ids = tokenizer(text * repeats, add_special_tokens=False).input_ids
        assert len(ids) >= told.tokens(text * repeats) >= 0


@pytest.mark.parametrize("name", TOLD)
@given(text=texts, most=st.integers(1, 6))
def test_what_is_refused_early_is_what_is_refused_anyway(name: str, text: str, most: int) -> None:
    encoder = Encoder(TOLD[name], vocab_size=9, max_tokens=most)

    def outcome(early: int | None) -> list[int] | str:
        try:
            return encoder.fit(encoder.text(text * 30, early), "error").ids
        except ConversationError as error:
            return error.kind

    assert outcome(most) == outcome(None)


def test_the_sign_of_each_byte_is_that_of_the_library() -> None:
    assert set(BYTES.values()) == set(pre_tokenizers.ByteLevel.alphabet())
    split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str
    for code in (*range(128), 0xA0, 0xFF, 0x10FFFF):
        ((signs, _),) = split(chr(code))
        assert signs == "".join(BYTES[byte] for byte in chr(code).encode())


def test_four_characters_at_most_are_one_after_nfc() -> None:
    every = map(chr, range(sys.maxunicode + 1))
    assert max(len(unicodedata.normalize("NFD", one)) for one in every) == fewest_tokens.COMPOSED


@pytest.mark.parametrize(
    "tokenizer",
    [
        trained(normalizers.NFKC()),
        trained(normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])),
        trained(None, pre_tokenizers.Split(" ", "removed")),
        trained(None, pre_tokenizers.Whitespace()),
        trained(added=(AddedToken("<x>", rstrip=True),)),
        PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
        ),
        trained(without="x"),
    ],
    ids=["NFKC", "strip", "removed", "whitespace", "rstrip", "words", "no x"],
)
def test_a_tokenizer_that_can_lose_text_tells_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    assert fewest_tokens.bound(tokenizer) is None


@pytest.mark.skipif(not SMOL.is_dir(), reason="make fetches models/smollm2-135m")
def test_a_long_text_is_refused_without_being_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder.load(SMOL, max_tokens=512)
    monkeypatch.setattr(encoder, "_ids", lambda _: pytest.fail("was tokenised"))
    with pytest.raises(ConversationError, match="at least 370371 tokens, the limit is 512"):
        encoder.text("x" * 30_000_000, 512)
