"""How many connections the process may have: each is a file descriptor."""

import resource

# Shells and systemd give 1,024, fewer than a trainer opens that sends a request a sample.
WANTED = 65_536


def raise_limit() -> None:
    """Of this process, to ``WANTED``, or to what the system lets it have; never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
