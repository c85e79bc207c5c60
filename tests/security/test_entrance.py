"""Who is let in, and as whom: each way to bring a key, each place to call from."""

import base64
from typing import Any

import pytest

from service.compat import peers
from service.entrance import Entrance, networks
from service.key_entry import read
from service.keys import ANONYMOUS, Keys
from service.problems import Failure
from service.routes import OWN, Routes

ROUTES = Routes([*OWN, *peers.ROUTES])
ENTRANCE = Entrance(
    Keys(read(["trainer:s3cret", "plain"], "keys line", ["score"], "key")),
    networks("10.0.0.0/8, fd00::/8,,192.0.2.7/32"),
    ROUTES,
    lambda _: False,
)


def basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def scope(path: str = "/score", caller: Any = ("198.51.100.1", 5)) -> dict[str, Any]:
    return {"type": "http", "path": path, "raw_path": path.encode(), "client": caller}


def client(asked: dict[str, Any], authorization: str | None = None) -> str | None:
    """The name of whoever is let in, or None."""
    try:
        key = ENTRANCE.take_key(asked)
        return ENTRANCE.check(asked, ROUTES.of(asked["path"]).use, authorization, key)
    except Failure as failure:
        refusal = (failure.kind, failure.detail)
    assert refusal == ("unauthenticated", "no accepted key in the Authorization header")
    return None


@pytest.mark.parametrize(
    ("authorization", "name"),
    [
        ("Bearer s3cret", "trainer"), ("bearer  s3cret ", "trainer"), ("BEARER plain", "key-2"),
        ("Bearer trainer:s3cret", "trainer"), (basic("anybody:s3cret"), "trainer"),
        (basic(":plain").replace("Basic", "BASIC"), "key-2"),
        (basic("a:trainer:s3cret"), "trainer"),
        (None, None), ("", None), ("s3cret", None), ("Bearer", None), ("Bearer s3cret x", None),
        ("Bearers3cret", None), ("Token s3cret", None), (basic("s3cret"), None),
        (basic("s3cret:"), None), ("Basic s3cret", None), ("Basic \xff\xff", None),
        ("Basic w6k=w", None), ("Basic " + base64.b64encode(b"a:\xff").decode(), None),
        (basic("a:s3cret") + "!", None),
    ],
)  # fmt: skip
def test_a_key_in_a_header(authorization: str | None, name: str | None) -> None:
    assert client(scope(), authorization) == name


@pytest.mark.parametrize(
    ("path", "name", "left"),
    [
        ("/k/s3cret/get_reward", "trainer", "/get_reward"),
        ("/k/plain/v2/models/m/infer", "key-2", "/v2/models/m/infer"),
        ("/k/wrong/get_reward", None, "/get_reward"),
        ("/k/s3cret/score", None, "/k"), ("/k/s3cret/livez", None, "/k"), ("/k/s3cret", None, "/k"),
        ("/k/s3cret/get_reward\n", None, "/k"), ("/k//get_reward", None, "/k//get_reward"),
        ("/x/k/s3cret/get_reward", None, "/x/k/s3cret/get_reward"),
    ],
)  # fmt: skip
def test_a_key_in_a_path_is_cut_out_of_it(path: str, name: str | None, left: str) -> None:
    asked = scope(path)
    assert client(asked) == name
    assert (asked["path"], asked["raw_path"]) == (left, left.encode())


@pytest.mark.parametrize(
    ("caller", "trusted"),
    [
        (("10.1.2.3", 5), True), (("fd12::1", 5), True), (("::ffff:10.1.2.3", 5), True),
        (("192.0.2.7", 5), True), (("192.0.2.8", 5), False), (("11.0.0.1", 5), False),
        (("fe80::1", 5), False), (("::ffff:11.0.0.1", 5), False), (("10.1.2", 5), False),
        (("", 5), False), (None, False),
    ],
)  # fmt: skip
def test_a_trusted_network_may_score_and_nothing_else(caller: Any, trusted: bool) -> None:
    assert client(scope(caller=caller)) == ("trusted-network" if trusted else None)
    assert client(scope("/models", caller)) is None
    assert client(scope("/livez", caller)) == ANONYMOUS
    assert client(scope(caller=caller), "Bearer s3cret") == "trainer"


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "10.0.0.0/8,::/0"])
def test_everybody_is_no_network(everybody: str) -> None:
    with pytest.raises(ValueError, match="/0 is everybody"):
        networks(everybody)
    assert networks(" , ") == []
