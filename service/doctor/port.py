"""Whether the server could listen."""

import errno
import socket
from typing import Literal

import httpx2

from service.doctor.finding import Finding, failed, ok, warning

# By the name of the finding: the flags and the port that may be had by everybody.
FLAGS = {"port": ("--port", "--host", 8000), "admin port": ("--admin-port", "--admin-host", 9090)}
Name = Literal["port", "admin port"]


def check(host: str, port: int, name: Name = "port") -> Finding:
    if port == 0:
        return ok(name, "0: the system gives a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server does: what is left of ended connections does not stand in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return refused(host, port, error, name)
    return ok(name, f"{host}:{port} is free")


def refused(host: str, port: int, error: OSError, name: Name) -> Finding:
    of_port, of_host, usual = FLAGS[name]
    said = f"{host}:{port} cannot be bound: {error.strerror}"
    if error.errno != errno.EADDRINUSE:
        mend = f"{of_port} {usual}" if error.errno == errno.EACCES else f"{of_host} 127.0.0.1"
        return failed(name, said, f"plaudit serve {mend}")
    mend = f"plaudit serve {of_port} {port + 1}; who listens: ss -ltnp 'sport = :{port}'"
    if answers(host, port):
        return warning(name, f"{host}:{port} has a server already that answers /livez", mend)
    return failed(name, said, mend)


def answers(host: str, port: int) -> bool:
    """Whether what listens there is a Plaudit server, as far as one can see."""
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    place = f"[{at}]" if ":" in at else at
    try:
        return httpx2.get(f"http://{place}:{port}/livez", timeout=2).status_code == 200
    except httpx2.RequestError:
        return False
