"""Word limits: which side then wins, what the model reads, and that no split is crossed."""

from hypothesis import given
from hypothesis import strategies as st

from plaudit.conversation import Encoder
from training.data.batches import groups
from training.data.encoding import encode
from training.data.shapes import Pair
from training.length_bias.word_limits import limited, with_limits

PROMPT = (
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "How so?"},
    {"role": "user", "content": "Say."},
)


def pair(chosen: int, rejected: int, number: int = 0) -> Pair:
    prompt = (*PROMPT[:-1], {"role": "user", "content": f"Say {number}."})
    return Pair(prompt, "yes " * chosen, "no " * rejected, "s", "c", 0.5, 0.75)


@given(st.integers(1, 50), st.integers(1, 50), st.floats(0, 1, exclude_max=True))
def test_the_side_within_the_limit_wins_and_otherwise_the_label_stays(chosen, rejected, place):
    if chosen == rejected:
        return
    given = pair(chosen, rejected)
    found = limited(given, place)
    counts = [len(text.split()) for text in (found.chosen, found.rejected)]
    assert found.word_limit is not None
    assert counts[0] <= found.word_limit  # who wins keeps to it
    if place < 0.5:
        assert found.word_limit < counts[1]
        assert (found.soft_label, found.target_margin) == (1.0, 0.0)
    else:
        assert found.word_limit >= max(counts)
        assert (found.chosen, found.soft_label, found.target_margin) == (given.chosen, 0.75, 0.5)


def test_half_the_limits_decide_and_the_share_is_kept():
    pairs = [pair(i % 7 + 1, i % 5 + 9, number=i) for i in range(400)]
    found = with_limits(pairs, 0.5)
    assert 160 < len(found) < 240
    deciding = [one for one in found if len(one.rejected.split()) > one.word_limit]
    assert 0.4 < len(deciding) / len(found) < 0.6
    assert with_limits(pairs, 0.5) == found
    assert with_limits(pairs, 0.0) == with_limits([pair(3, 3)], 1.0) == []


def test_the_model_reads_the_limit_and_the_split_does_not(tokenizer):
    encoder = Encoder(tokenizer, len(tokenizer), 512)
    given = pair(3, 9)
    found = limited(given, 0.25)
    encoded, _ = encode([found], encoder, None)
    text = encoder.tokenizer.decode(encoded[0].chosen)
    assert f"Say 0.\n\nAnswer in at most {found.word_limit} words." in text
    assert found.first_turn == given.first_turn == "Why?"
    # Another question, so no comparison of the same element in K-wise batches.
    both = encode([given, found], encoder, None)[0]
    assert len(groups(both, kwise=True)) == 2
