"""Who is let in: by a key in a header or in the path, or by the network the call comes from."""

import base64
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import Literal

from starlette.types import Scope

from service.key_entry import Grant
from service.keys import ANONYMOUS, Keys
from service.problems import Failure
from service.routes import Routes, Use

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
KEY_IN_PATH = re.compile(r"/k/(?P<key>[^/]+)(?P<rest>/.*)?", re.DOTALL)
# The client of callers without a key whom their network lets in.
TRUSTED = "trusted-network"
# What a key must open to be let in. Unknown routes are not there for any key that is good.
NEEDS: dict[Use, Grant] = {
    "scoring": "score", "keyed": "score", "metrics": "metrics", "admin": "admin",
}  # fmt: skip
# What a route is opened by; "unknown" of those that are none.
Opens = Grant | Literal["unknown"]
# Whether what that opens is everybody's, key or not.
Free = Callable[[Opens], bool]
# Where the rest of a path with a key is no route of a peer.
NOWHERE = "/k"


def networks(text: str) -> list[Network]:
    """``10.0.0.0/8,fd00::/8`` read; ValueError for what is none, or is everybody."""
    found = [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]
    for network in found:
        if network.prefixlen == 0:
            raise ValueError(f"{network} is everybody")
    return found


def free_on_main(keys: Keys, open_metrics: bool, grant: Opens) -> bool:
    """Without a key that scores everybody may do all but administrate; the settings see to it that
    this is so on loopback only. ``open_metrics``: this port has them, and they need no key."""
    if grant == "metrics" and open_metrics:
        return True
    return grant != "admin" and "score" not in keys.grants


def free_on_admin(open_metrics: bool, grant: Opens) -> bool:
    """Metrics, where the address is a loopback one or the network guards it, and to be told that
    a path is no route."""
    return grant in ("metrics", "unknown") and open_metrics


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class NotLetIn(Failure):
    """``client``: whose key it is, where it is somebody's and opens too little, or no more."""

    def __init__(self, kind: str, detail: str, client: str | None = None):
        super().__init__(kind, detail)
        self.client = client


class Entrance:
    """Lets callers in, or not."""

    def __init__(self, keys: Keys, trusted: Sequence[Network], routes: Routes, free: Free):
        self._keys, self._trusted, self._routes, self._free = keys, trusted, routes, free

    def take_key(self, scope: Scope) -> str | None:
        """The key in the path. It is cut out of ``scope`` itself, so that nobody who reads the
        path later, a log of the server included, comes to see it."""
        matched = KEY_IN_PATH.fullmatch(scope["path"])
        if matched is None:
            return None
        rest = matched["rest"] or NOWHERE
        if not self._routes.of(rest).of_a_peer:
            rest = NOWHERE
        scope["path"], scope["raw_path"] = rest, rest.encode()
        return matched["key"] if rest != NOWHERE else None

    def check(self, scope: Scope, use: Use, authorization: str | None, key: str | None) -> str:
        """The client's name, from a closed set. NotLetIn, "unauthenticated" without a good key,
        "forbidden" with one that does not open a route of this ``use``; ``key`` is the path's."""
        entry = self._keys.find(key or key_of(authorization, basic=use != "admin"))
        over = entry is not None and entry.is_over()
        if entry is not None and not over and opens(entry.grants, use):
            return entry.client
        if self._is_free(use):
            return ANONYMOUS
        if use == "scoring" and self.trusts(scope):
            return TRUSTED
        if entry is None:
            raise NotLetIn("unauthenticated", "no accepted key in the Authorization header")
        client = entry.client
        if over:
            raise NotLetIn("unauthenticated", f"the time of this key of {client} is over", client)
        raise NotLetIn("forbidden", f"this key of {client} has no scope {NEEDS[use]}", client)

    def _is_free(self, use: Use) -> bool:
        return use == "open" or self._free("unknown" if use == "unknown" else NEEDS[use])

    def trusts(self, scope: Scope) -> bool:
        """Whether the other end of the socket is in a trusted network; what proxies say of those
        behind them (X-Forwarded-For) could be said by anybody."""
        if not self._trusted or scope.get("client") is None:
            return False
        try:
            address = ipaddress.ip_address(scope["client"][0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)  # of a caller by IPv4 to a socket of IPv6
        return any((mapped or address) in network for network in self._trusted)


def opens(grants: frozenset[Grant], use: Use) -> bool:
    return use in ("open", "unknown") or NEEDS[use] in grants


def key_of(authorization: str | None, basic: bool) -> str | None:
    """The key of a header: ``Bearer KEY``, or with ``basic`` the password of ``Basic``, which is
    what a client makes of ``http://anybody:KEY@host/``. A browser adds the latter by itself to
    whatever a foreign page makes it send."""
    scheme, _, value = (authorization or "").partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic" if basic:
            try:
                pair = base64.b64decode(value.strip(), validate=True).decode()
            except ValueError:  # no base64, not even ASCII, or no UTF-8 in it
                return None
            return pair.partition(":")[2]
    return None
