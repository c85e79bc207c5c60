"""Bytes that hold no row are counted with their line, or refused with their file: never a crash."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.jsonlines import DataError, read_rows
from training.data.sources import Source, load

GOOD = json.dumps({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}).encode()
# Whatever the interpreter's own limit is.
DEEP = 200_000
UNREADABLE = {
    "not UTF-8": [b"\xff", GOOD.replace(b"Hello", b"caf\xe9"), GOOD.decode().encode("utf-16")],
    "not a JSON object": [GOOD[:-1], b"[1]", "\u00a0".encode(), b"\x00"],
    "an integer of too many digits": [GOOD[:-1] + b', "id": ' + b"9" * 5000 + b"}"],
    "nested too deeply": [
        b'{"a":' * DEEP,
        GOOD[:-1] + b', "a": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    ],
}


@pytest.mark.parametrize(
    ("reason", "line"), [(why, line) for why in UNREADABLE for line in UNREADABLE[why]]
)
def test_a_line_that_cannot_be_read_is_refused_with_its_number(tmp_path, reason, line):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join([GOOD, line, GOOD]))
    loaded = load(Source(name="s", path=path))
    assert len(loaded.pairs) == 2
    assert loaded.refused == [(2, reason)]
    with pytest.raises(DataError, match=f"line 2: {reason}"):
        read_rows(path, ["prompt"])


PACKED = gzip.compress(GOOD + b"\n" + GOOD)


@pytest.mark.parametrize(
    "content",
    [PACKED[:-9], PACKED[:5], PACKED[:20] + b"\xff" * 9 + PACKED[29:], GOOD, PACKED + b"more"],
    ids=["cut", "cut in the header", "damaged", "no gzip", "followed by something"],
)
def test_a_file_that_cannot_be_decompressed_is_named_with_what_mends_it(tmp_path, content):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"rows.jsonl.gz cannot be decompressed .* fetch it again"):
        load(Source(name="s", path=path))


def nested(leaves: st.SearchStrategy) -> st.SearchStrategy:
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


NAMES = st.sampled_from(["prompt", "chosen", "rejected", "soft_label", "category", "role"])
VALUES = nested(st.none() | st.booleans() | st.integers() | st.floats() | st.text())
ROWS = st.dictionaries(NAMES, VALUES).map(lambda row: json.dumps(row).encode())
LINES = st.lists(st.binary() | ROWS | st.just(GOOD)).map(b"\n".join)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("bytes")


@given(content=LINES)
def test_every_line_of_any_bytes_is_a_row_or_refused_once(place, content):
    path = place / "rows.jsonl"
    path.write_bytes(GOOD + b"\n" + content)
    loaded = load(Source(name="s", path=path))
    lines = [n for n, line in enumerate(path.read_bytes().split(b"\n"), 1) if line.strip()]
    assert sorted([pair.line for pair in loaded.pairs] + [n for n, _ in loaded.refused]) == lines


@given(content=st.binary() | st.binary().map(lambda end: PACKED[: len(end)] + end))
def test_any_bytes_as_gzip_are_read_or_refused(place, content):
    path = place / "rows.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be decompressed|nothing fits"):
        load(Source(name="s", path=path))
