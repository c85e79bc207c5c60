"""Whether the server could listen."""

import errno
import socket

import httpx2

from service.doctor.finding import Finding, failed, ok, warning


def check(host: str, port: int) -> Finding:
    if port == 0:
        return ok("port", "0: the system gives a free one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server does: what is left of ended connections does not stand in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return refused(host, port, error)
    return ok("port", f"{host}:{port} is free")


def refused(host: str, port: int, error: OSError) -> Finding:
    said = f"{host}:{port} cannot be bound: {error.strerror}"
    if error.errno != errno.EADDRINUSE:
        mend = "--port 8000" if error.errno == errno.EACCES else "--host 127.0.0.1"
        return failed("port", said, f"plaudit serve {mend}")
    mend = f"plaudit serve --port {port + 1}; who listens: ss -ltnp 'sport = :{port}'"
    if answers(host, port):
        return warning("port", f"{host}:{port} has a server already that answers /livez", mend)
    return failed("port", said, mend)


def answers(host: str, port: int) -> bool:
    """Whether what listens there is a Plaudit server, as far as one can see."""
    at = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    place = f"[{at}]" if ":" in at else at
    try:
        return httpx2.get(f"http://{place}:{port}/livez", timeout=2).status_code == 200
    except httpx2.RequestError:
        return False
