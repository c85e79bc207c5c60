"""What a router in front of the replicas may go by."""

from collections.abc import Iterator

import pytest

from plaudit.client import RewardClient
from plaudit.testing import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def sent(server: FakeServer) -> list[str | None]:
    return [received.headers.get("x-prompt-hash") for received in server.requests]


def test_a_request_about_one_prompt_names_it_by_a_digest_alike_in_every_form(
    server: FakeServer,
) -> None:
    with RewardClient(server.url) as client:
        client.score([("How?", "So."), ("How?", "Not so.")])
        client.score_groups([("How?", ["So.", "Not so."])])
        client.score([([{"role": "user", "content": "How?"}], "So.")])
        client.score([("Why?", "So.")])
    first, grouped, in_messages, other = sent(server)
    assert first == grouped == in_messages != other
    assert first is not None
    assert len(first) == 32


def test_a_request_about_several_prompts_or_none_names_none(server: FakeServer) -> None:
    with RewardClient(server.url) as client:
        client.score([("How?", "So."), ("Why?", "So.")])
        client.score([])
    assert sent(server) == [None, None]


def test_the_callers_own_choice_stands(server: FakeServer) -> None:
    with RewardClient(server.url, headers=lambda: {"X-Prompt-Hash": "mine"}) as client:
        client.score([("How?", "So.")])
    assert sent(server) == ["mine"]
