"""A real redis-server, which can be killed and brought back on its port."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from spawned import spawned

from training.service_process import free_port


class RedisServer:
    def __init__(self, directory: Path, *words: str):
        """``words`` are further arguments, as a container has them."""
        assert shutil.which("redis-server"), "redis-server is missing: make test installs it"
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        where = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory))
        self._log = directory / f"redis-{self.port}.log"
        self._command = ("redis-server", *where, *words)
        self._running = ExitStack()

    def start(self) -> None:
        self._running.enter_context(spawned(self._log, "Ready to accept", *self._command))

    def kill(self) -> None:
        self._running.close()

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port)


@contextmanager
def serving_redis(directory: Path, *words: str) -> Iterator[RedisServer]:
    """It runs; whatever happens in the block, it does no longer after it."""
    server = RedisServer(directory, *words)
    try:
        server.start()
        yield server
    finally:
        server.kill()
