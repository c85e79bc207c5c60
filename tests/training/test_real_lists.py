"""The real lists: every comparison is a pair, or is counted."""

import gzip
import json
from pathlib import Path

import pytest

from training.data.sources import Source, load

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def rows_of(name: str) -> list[dict]:
    path = DATA / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no preference data at {DATA}")
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


@pytest.mark.parametrize("name", ["rmb_lists", "qa_feedback_lists"])
def test_each_judged_comparison_is_a_pair(name):
    rows = rows_of(name)
    loaded = load(Source(name=name, path=DATA / f"{name}.jsonl.gz", shape="lists"))
    assert loaded.refused == []
    assert len(loaded.pairs) == sum(len(row["better"]) for row in rows) > 1000
    first, (winner, loser) = rows[0], rows[0]["better"][0]
    assert loaded.pairs[0].chosen == first["responses"][winner]
    assert loaded.pairs[0].rejected == first["responses"][loser]


def test_win_probabilities_are_pairs_with_the_reference():
    rows = rows_of("alpacaeval_lists")
    path = DATA / "alpacaeval_lists.jsonl.gz"
    loaded = load(Source(name="alpacaeval", path=path, shape="win_probabilities"))
    judged = [
        (response["text"], row["reference"]["text"], response["win_probability"])
        for row in rows
        for response in row["responses"]
    ]
    prefer = [one for one in judged if one[0] != one[1] and one[2] != 0.5]
    empty = [one for one in prefer if not one[0].strip()]
    assert len(loaded.pairs) == len(prefer) - len(empty)
    assert [reason for _, reason in loaded.refused] == ["an empty response"] * len(empty)
    assert sum(pair.soft_label for pair in loaded.pairs) == pytest.approx(
        sum(max(wins, 1 - wins) for text, _, wins in prefer if text.strip())
    )
