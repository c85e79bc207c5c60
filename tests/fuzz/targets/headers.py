"""Headers and paths that callers write: keys, deadlines, priorities, ids.

An input is a kind, and the value in Latin-1, as servers read headers.
"""

import base64
import re
from collections.abc import Callable

from service.compat import peers
from service.entrance import Entrance, key_of, networks
from service.fair_queue import SHARES
from service.key_entry import read
from service.keys import ANONYMOUS, Keys
from service.problems import Failure
from service.request_headers import deadline_seconds, is_retry, priority, request_id
from service.routes import OWN, Routes
from tests.fuzz.targets.choosing import choosing, chosen
from tests.fuzz.targets.saying import refused

LIMIT = 90.0
SECRET = "s3cret"
ROUTES = Routes([*OWN, *peers.ROUTES])
ENTRANCE = Entrance(
    Keys(read([f"trainer:{SECRET}"], "keys line", ["score"], "key")),
    networks("10.0.0.0/8,fd00::/8"),
    ROUTES,
    lambda _: False,
)


def deadline(value: str) -> None:
    assert 0 < deadline_seconds({"x-request-deadline-ms": value}, LIMIT) <= LIMIT


def urgency(value: str) -> None:
    assert priority({"x-priority": value}) in SHARES


def identity(value: str) -> None:
    """Only letters, digits and hyphens ever reach a log or an answer."""
    assert re.fullmatch("[A-Za-z0-9-]{1,64}", request_id({"x-request-id": value}))


def retry(value: str) -> None:
    said = is_retry([(b"x-plaudit-retry-count", value.encode("latin-1"))])
    assert said == bool(re.fullmatch("[0-9]+", value) and value.strip("0"))


def authorization(value: str) -> None:
    """In by the secret alone, or the whole entry, however they are wrapped."""
    scope = {"type": "http", "path": "/score", "client": None}
    client = ENTRANCE.check(scope, "scoring", value, None)
    assert client == "trainer"
    assert key_of(value, basic=True) in (SECRET, f"trainer:{SECRET}")


def address(value: str) -> None:
    """A peer's address that is none lets nobody in."""
    scope = {"type": "http", "path": "/score", "client": (value, 1)}
    assert ENTRANCE.check(scope, "scoring", None, None) == "trusted-network"
    assert re.match("10\\.|fd|::ffff:", value, re.IGNORECASE) or ":" in value


def path(value: str) -> None:
    """A key is cut out of the path; what is left is a peer's route, or nobody's."""
    scope = {"type": "http", "path": value, "raw_path": value.encode(), "client": None}
    key = ENTRANCE.take_key(scope)
    if value.startswith("/k/") and scope["path"] != value:
        assert ROUTES.of(scope["path"]).of_a_peer or scope["path"] == "/k"
    use = ROUTES.of(scope["path"]).use
    client = ENTRANCE.check(scope, use, None, key)
    assert client == ("trainer" if key in (SECRET, f"trainer:{SECRET}") else ANONYMOUS)
    assert client == "trainer" or use == "open"


READERS: tuple[Callable[[str], None], ...] = (
    deadline, urgency, identity, retry, authorization, address, path,
)  # fmt: skip
SEEDS: dict[Callable[[str], None], tuple[str, ...]] = {
    deadline: ("1", "999999999999", "0", "٣", "1e3", "+1", " 5"),
    urgency: ("train", "eval", "offline", "Train", "train,eval"),
    identity: ("abc-1", "a" * 65, "a\n", "\u00b2"),
    retry: ("0", "12", "-1", "\u00b2"),
    authorization: (
        f"Bearer {SECRET}", "bearer x", f"Basic {base64.b64encode(b'a:s3cret').decode()}",
        "Basic w6k6w6k=", "Basic ====", "Digest x", "",
    ),
    address: ("10.1.2.3", "fd00::1", "::ffff:10.0.0.1", "fe80::1%eth0", "10.0.0.1\n", "127.1"),
    path: (
        f"/k/{SECRET}/get_reward", "/k/x/score", "/k//", "/livez", "//score", "/score/",
        f"/k/{SECRET}/v2/models/../score/infer", "/v2/models/a\nb/infer", "/score\n",
    ),
}  # fmt: skip


def seeds() -> list[bytes]:
    return [
        choosing(reader, READERS, value.encode("latin-1", "replace"))
        for reader, values in SEEDS.items()
        for value in values
    ]


def one(data: bytes) -> None:
    """A value within its bounds, or "malformed" or "unauthenticated"."""
    reader, value = chosen(data, READERS)
    try:
        reader(value.decode("latin-1"))
    except Failure as failure:
        refused(failure, "malformed", "unauthenticated")
