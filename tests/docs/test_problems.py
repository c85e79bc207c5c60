"""Problems link to headings of docs/problems.md, so each key has one, and no heading is left."""

import re
from pathlib import Path
from typing import get_args

import pytest

from plaudit.wire import ItemErrorType
from service.problems import DOCS, KINDS

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"
ITEM_ERRORS = get_args(ItemErrorType)


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert len(set(parts[::2])) == len(parts[::2]), "a heading stands twice"
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_headings_are_the_keys():
    assert set(sections()) == set(KINDS) | set(ITEM_ERRORS)
    assert DOCS.endswith(f"docs/{PAGE.name}")


@pytest.mark.parametrize("key", KINDS)
def test_a_problem_is_described_with_its_status(key):
    assert f"HTTP {KINDS[key].status}." in sections()[key]


@pytest.mark.parametrize("key", sorted({*KINDS, *ITEM_ERRORS}))
def test_every_section_says_when_and_what_to_do(key):
    text = sections()[key]
    assert "When:" in text
    assert "What to do:" in text


@pytest.mark.parametrize("key", ITEM_ERRORS)
def test_an_item_error_is_described_as_one(key):
    assert "Item error." in sections()[key]
