"""The sockets that are listened on: taken before anything is loaded.

uvicorn would take them after the models are loaded.
"""

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from service.settings import SettingsError


class Place(NamedTuple):
    """Where sockets are reached from this machine; ``every`` is "IPv4" or "IPv6" where others reach
    them by each such address that it has."""

    url: str
    every: str = ""


def bind(host: str, port: int, of: str) -> list[socket.socket]:
    """Sockets of each address of ``host``, which do not listen yet: whoever calls now is refused
    and not kept waiting. SettingsError with the flags' common prefix ``of``, "--" or "--admin-"."""
    said = f"{of}host {host} {of}port {port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return [_bound(family, address) for family, *_, address in dict.fromkeys(found)]
    except OSError as error:
        raise taken(said, error) from None


def _bound(family: int, address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


def listen(sockets: list[socket.socket]) -> None:
    """SettingsError if another process, bound to the same port meanwhile, was faster."""
    for one in sockets:
        try:
            one.listen()
        except OSError as error:
            host, port = one.getsockname()[:2]
            raise taken(f"{host} port {port}", error) from None


def place_of(sockets: Sequence[socket.socket]) -> Place:
    """By the first one's address and the port that it has got. Nobody can call a wildcard, so there
    it is the loopback address that it includes."""
    host, port = sockets[0].getsockname()[:2]
    address = ipaddress.ip_address(host)
    six = address.version == 6
    if address.is_unspecified:
        host = "::1" if six else "127.0.0.1"
    every = f"IPv{address.version}" if address.is_unspecified else ""
    return Place(f"http://[{host}]:{port}" if six else f"http://{host}:{port}", every)


def taken(said: str, error: OSError) -> SettingsError:
    return SettingsError(
        f"{said}: {error.strerror}; name a free port of an address of this machine"
    )
