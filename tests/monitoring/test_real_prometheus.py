"""A real Prometheus scrapes the real service under a little of every traffic; then every panel's
query and every recorded series must have data."""

import math
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mixed_traffic import Traffic
from prometheus_server import Prometheus, scraping
from promql_reader import BOARDS, RECORDED, queries, reads, variables
from redis_process import serving_redis
from served_process import ServedProcess
from spawned import wait_for

from plaudit.checkpoint import Stats

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed: apt-get install it"
)

# Nothing here exports these: there is no GPU, no cluster, no exporter beside Redis.
ABSENT = {
    "redis_": "redis_exporter, which runs beside Redis",
    "DCGM_": "dcgm-exporter, which runs beside GPUs",
    "kube_": "kube-state-metrics, of a cluster",
    "plaudit_device_": "a GPU",
}
STATS = Stats("made up", "sha256:made-up", 1000, 0.0, 0.5, tuple(i / 10 - 0.9 for i in range(19)))
KEYS = ("a-key-of-the-trainer", "a-key-of-the-evaluation")
SCRAPER = "a-key-of-prometheus"

QUERIES = [
    (f"{name}: {title}", expr) for name, board in BOARDS.items() for title, expr in queries(board)
]


def absent(expr: str) -> bool:
    """Whether all that it reads is of what is not here."""
    return all(one.metric.startswith(tuple(ABSENT)) for one in reads(expr))


def finite(values: list[float]) -> bool:
    return bool(values) and all(map(math.isfinite, values))


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    members: list[Path],
    save_plain: Callable[..., Path],
    make_complete: Callable[..., Path],
    tokenizer: object,
) -> Iterator[Traffic]:
    """One model with reference scores, an ensemble with a member that takes less, and Redis."""
    folder = tmp_path_factory.mktemp("served")
    make_complete(save_plain(folder / "single", tokenizer, seed=7), stats=STATS)
    make_complete(save_plain(folder / "short", tokenizer, seed=8), max_tokens=150)
    ensemble = folder / "ensemble.yaml"
    ensemble.write_text(f"members: [short, {members[1]}, {members[2]}]\nmin_members: 2\n")
    digest = sha256(SCRAPER.encode()).hexdigest()
    (folder / "keys").write_text(f"prometheus:sha256:{digest} scope=metrics\n")
    flags = {
        "--api-keys-file": str(folder / "keys"),
        "--api-keys": f"trainer:{KEYS[0]},evaluation:{KEYS[1]}",
        "--max-queued-tokens": "2000",
        "--compat-model": "single",
        "--compat-on-error": "floor:-5",
        "--canary-seconds": "1",
        "--threads": "1",
    }
    with serving_redis(folder, "--save", "") as redis:
        flags["--redis-url"] = redis.url
        process = ServedProcess(
            [folder / "single", ensemble], *(word for pair in flags.items() for word in pair)
        )
        try:
            yield Traffic(process.wait(), "single", "ensemble", KEYS)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def prometheus(served: Traffic, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has scraped long enough that every query that can have data has."""
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("prometheus")
        found = stack.enter_context(scraping(directory, urlsplit(served.url).netloc, SCRAPER))
        stack.enter_context(served.flowing())
        wanted = [expr for _, expr in QUERIES if not absent(expr)] + list(RECORDED)
        waiting = set(wanted)

        def all_there() -> bool:
            waiting.difference_update([one for one in waiting if finite(found.values(one))])
            return not waiting

        try:
            wait_for("data", all_there)
        except AssertionError:
            pytest.fail(
                f"no finite data, answers {served.statuses}:\n" + "\n".join(sorted(waiting))
            )
        yield found


def test_every_panel_has_data(prometheus: Prometheus) -> None:
    # An annotation of a deploy is there for two minutes only: the fixture has seen it.
    empty = {name: expr for name, expr in QUERIES if not absent(expr) and " offset " not in expr}
    assert len(empty) > 60

    def none_is_empty() -> bool:
        for name in [name for name, expr in empty.items() if prometheus.values(expr)]:
            del empty[name]
        return not empty

    wait_for("data in every panel", none_is_empty)


def test_every_recorded_series_has_data(prometheus: Prometheus) -> None:
    for record in RECORDED:
        wait_for(record, lambda record=record: finite(prometheus.values(record)))


def test_what_is_said_to_be_absent_here_is(prometheus: Prometheus) -> None:
    """A panel must not be excused once the service itself exports what it shows."""
    excused = [(name, expr) for name, expr in QUERIES if absent(expr)]
    assert excused
    for name, expr in excused:
        assert prometheus.values(expr) == [], name


def test_every_variable_offers_values(prometheus: Prometheus) -> None:
    for board in BOARDS.values():
        for name, one in variables(board).items():
            if one["type"] == "query":
                matched = re.fullmatch(r"label_values\((.*), (\w+)\)", one["query"]["query"])
                assert matched
                assert prometheus.labels(matched[2], matched[1]), name


def test_every_rule_evaluates_and_none_holds_that_says_the_service_is_away(
    prometheus: Prometheus,
) -> None:
    wait_for("rules", lambda: all(one["health"] == "ok" for one in prometheus.rules()))
    away = {"PlauditAllDown", "PlauditTargetDown", "PlauditAbsentMetrics"}

    def none_holds() -> bool:
        states = {one["name"]: one.get("state") for one in prometheus.rules()}
        return {states[name] for name in away} == {"inactive"}

    wait_for("no alert that says the service is away", none_holds)
