"""A server that can be given more than it can do: a small model on one thread, long sequences."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from served_process import ServedProcess

from training.service_process import free_port

BATCH_TOKENS = 2048
# Its vocabulary is bytes and three specials.
IDS = range(10, 250)
SIZES = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4}


class SlowServer:
    def __init__(self, model: Path, *flags: str):
        admin = free_port()
        self.model, self.admin = model, f"http://127.0.0.1:{admin}"
        self.process = ServedProcess(
            [model], "--threads", "1", "--admin-port", str(admin), "--canary-seconds", "3600",
            "--max-batch-tokens", str(BATCH_TOKENS), "--prefix-cache-megabytes", "0", *flags,
        )  # fmt: skip
        self.url = self.process.wait()

    def value(self, series: str) -> float:
        """Of a series with its labels, as it stands in the metrics."""
        text = httpx2.get(f"{self.admin}/metrics", timeout=60).text
        found = [line for line in text.splitlines() if line.startswith(f"{series} ")]
        return sum(float(line.split()[-1]) for line in found)

    def computed(self) -> float:
        """Tokens of all sequences that were computed."""
        return self.value('plaudit_tokens_total{kind="real"}')

    def is_empty(self) -> bool:
        """Nothing is held, waits or is computed."""
        return not self.value("plaudit_queue_tokens") and not self.value("plaudit_queue_items")


@contextmanager
def slow_server(
    directory: Path,
    save_plain: Callable[..., Path],
    complete: Callable[..., Path],
    tokenizer,
    *flags,
) -> Iterator[SlowServer]:
    model = complete(save_plain(directory, tokenizer, seed=0, **SIZES), max_tokens=1024)
    server = SlowServer(model, *flags)
    try:
        yield server
    finally:
        server.process.kill()


def sequence(rng: random.Random, tokens: int) -> list[int]:
    return rng.choices(IDS, k=tokens)
