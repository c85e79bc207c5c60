"""``plaudit serve`` with all that it can tell anybody, each kept for a test to look through."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
from otlp_collector import Collector, collecting
from redis_process import RedisServer, serving_redis
from spawned import wait_for

from training.service_process import free_port


class WatchedServer:
    """Its log at the level debug, traces, Redis, both ports, keys in a file, and the audit file."""

    def __init__(self, directory: Path, redis: RedisServer, collector: Collector, keys: str):
        self.redis, self.collector = redis, collector
        self.log, self.audit = directory / "log", directory / "audit"
        self.keys, self.root = directory / "keys", directory / "root"
        self.root.mkdir(exist_ok=True)
        self.keys.write_text(keys)
        port, admin = free_port(), free_port()
        self.url, self.ops = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        flags = {
            "--port": port, "--admin-port": admin, "--device": "cpu", "--dtype": "float32",
            "--threads": 1, "--log-level": "debug", "--api-keys-file": self.keys,
            "--audit-file": self.audit, "--redis-url": redis.url, "--model-root": self.root,
            "--otlp-endpoint": collector.url, "--cache-secret": "secret-of-the-cache",
        }  # fmt: skip
        self._flags = [str(word) for pair in flags.items() for word in pair]

    def start(self, models: Sequence[Path]) -> None:
        """Ready when this returns."""
        command = [sys.executable, "-m", "plaudit.cli", "serve", *map(str, models), *self._flags]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with self.log.open("w") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
        wait_for("readiness", self._is_ready)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=60).status_code == 200
        except httpx2.TransportError:
            return False

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, after which all traces are sent; the exit status."""
        self.signal(signal.SIGTERM)
        return self._process.wait(120)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def watched(directory: Path, models: Sequence[Path], keys: str) -> Iterator[WatchedServer]:
    with serving_redis(directory, "--save", "") as redis, collecting() as collector:
        server = WatchedServer(directory, redis, collector, keys)
        server.start(models)
        try:
            yield server
        finally:
            server.end()
