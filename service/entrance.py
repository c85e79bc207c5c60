"""Who is let in: by a key in a header or in the path, or by the network the call comes from."""

import base64
import ipaddress
import re
from collections.abc import Sequence

from starlette.types import Scope

from service.hardening import ANONYMOUS, Keys
from service.problems import Failure
from service.routes import Routes

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
KEY_IN_PATH = re.compile(r"/k/(?P<key>[^/]+)(?P<rest>/.*)?", re.DOTALL)
# The client of callers without a key whom their network lets in.
TRUSTED = "trusted-network"
# Where the rest of a path with a key is no route of a peer.
NOWHERE = "/k"


def networks(text: str) -> list[Network]:
    """``10.0.0.0/8,fd00::/8`` read; ValueError for what is none, or is everybody."""
    found = [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]
    for network in found:
        if network.prefixlen == 0:
            raise ValueError(f"{network} is everybody")
    return found


class Entrance:
    """Lets callers in, or not. Without keys every caller is."""

    def __init__(self, keys: Keys, trusted: Sequence[Network], routes: Routes):
        self._keys, self._trusted, self._routes = keys, trusted, routes

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

    def check(self, scope: Scope, authorization: str | None, key: str | None) -> str:
        """The client's name, from a closed set. Failure "unauthenticated" unless it may use the
        route; ``key`` is the path's."""
        client = self._keys.client(key or key_of(authorization))
        if client is not None:
            return client
        use = self._routes.of(scope["path"]).use
        if use == "open":
            return ANONYMOUS
        if use == "scoring" and self.trusts(scope):
            return TRUSTED
        raise Failure("unauthenticated", "no accepted key in the Authorization header")

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


def key_of(authorization: str | None) -> str | None:
    """The key of a header: ``Bearer KEY``, or the password of ``Basic``, which is what a client
    makes of ``http://anybody:KEY@host/``."""
    scheme, _, value = (authorization or "").partition(" ")
    match scheme.lower():
        case "bearer":
            return value.strip()
        case "basic":
            try:
                pair = base64.b64decode(value.strip(), validate=True).decode()
            except ValueError:  # no base64, not even ASCII, or no UTF-8 in it
                return None
            return pair.partition(":")[2]
    return None
