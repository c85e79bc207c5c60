"""The sockets that are listened on: taken before anything is loaded.

uvicorn would take them after the models are loaded.
"""

import socket
from typing import Any

from service.settings import SettingsError


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


def taken(said: str, error: OSError) -> SettingsError:
    return SettingsError(
        f"{said}: {error.strerror}; name a free port of an address of this machine"
    )
