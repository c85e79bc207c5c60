"""Every request of the pages is answered as the page says, by a real server of tiny models."""

import json
import shlex
import subprocess
from typing import Any

import pytest
from doc_blocks import Block, blocks, commands, without_ellipses

# The last is of an admin port, whose probes and metrics a server without one has on its own.
HOSTS = ("http://127.0.0.1:8000", "http://HOST:8000", "http://HOST:9090")
# What stands for a body of the reader's own.
ANY_BODY = '{"model": "warm", "items": [{"prompt": "Hi", "response": "Hello"}]}'
# Of docs/warm.md, whose ensemble has an average as its centre; tests/service/test_centre.py.
CENTRE = ".centre"
# Of other programs' servers.
ELSEWHERE = "http://PROMETHEUS:9090"
CURLS = [
    (block, words)
    for block in blocks()
    if block.language == "sh"
    for words in commands(block)
    if words[0] == "curl"
]
REQUESTS = [
    pytest.param(block, words, id=f"{block} {words[2]}")
    for block, words in CURLS
    if not any(ELSEWHERE in word for word in words)
]
JSON = [pytest.param(block, id=str(block)) for block in blocks() if block.language == "json"]
ANSWERS = [
    pytest.param(block, id=str(block))
    for block in blocks()
    if block.language == "json" and block.before and "curl" in block.before.text
]


def ask(words: list[str], url: str) -> tuple[int, str]:
    """Status and body of what the real curl gets."""
    for host in HOSTS:
        words = [word.replace(host, url) for word in words]
    words = [ANY_BODY if word == "…" else word for word in words]
    done = subprocess.run(
        [*words, "--max-time", "60", "--write-out", "\n%{http_code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


@pytest.mark.parametrize(("block", "words"), REQUESTS)
def test_a_request_is_answered(block: Block, words: list[str], served: str) -> None:
    status, body = ask(words, served)

    assert status == 200, f"{block}: {shlex.join(words)}\n{body}"


@pytest.mark.parametrize("block", JSON)
def test_what_is_shown_as_json_is_json(block: Block) -> None:
    assert without_ellipses(block.text) is not None


@pytest.mark.parametrize("block", ANSWERS)
def test_an_answer_has_the_fields_that_the_page_shows(block: Block, served: str) -> None:
    assert block.before
    words = commands(block.before)[-1]
    real = fields(json.loads(ask(words, served)[1]))
    shown = {one for one in fields(without_ellipses(block.text)) if not one.startswith(CENTRE)}

    assert shown <= real
    assert "…" in block.text or shown == real


def fields(value: Any, path: str = "") -> set[str]:
    """Paths of all fields, those of a list's entries as one. Names of members are the reader's."""
    if isinstance(value, dict):
        return {
            deep
            for name, inner in value.items()
            for deep in {f"{path}.{name}"} | fields(inner, f"{path}.{name}")
        }
    if isinstance(value, list):
        return {deep for inner in value for deep in fields(inner, f"{path}[]")}
    return set()
