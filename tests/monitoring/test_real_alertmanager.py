"""A real Alertmanager with the configuration: which alerts are mute while another one fires."""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from promql_reader import ALERTS, MONITORING
from spawned import spawned, wait_for

from training.service_process import free_port

COMMAND = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
pytestmark = pytest.mark.skipif(COMMAND is None, reason="apt-get install prometheus-alertmanager")
CLUSTER = {"namespace": "rewards", "job": "plaudit"}
# What each fires with: absent() knows no namespace, other alerts keep their series' labels.
LABELS = {name: CLUSTER for name in (rule["alert"] for rule in ALERTS)} | {
    "PlauditAbsentMetrics": {"job": "plaudit"},
    "PlauditNonFinite": CLUSTER | {"instance": "a", "model": "m"},
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("alertmanager")
    port = free_port()
    assert COMMAND
    command = (
        COMMAND, f"--config.file={MONITORING / 'alertmanager.yml'}", f"--storage.path={folder}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    )  # fmt: skip
    with spawned(folder / "log", "Listening on", *command):
        yield f"http://127.0.0.1:{port}/api/v2/alerts"


def fire(url: str, *alerts: dict[str, str]) -> None:
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200


def mute(url: str, cluster: str) -> dict[str, bool]:
    """By name, of the alerts of one test."""
    with urllib.request.urlopen(url) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return {
        one["labels"]["alertname"]: bool(one["status"]["inhibitedBy"])
        for one in found
        if one["labels"]["cluster"] == cluster
    }


@pytest.mark.parametrize(
    ("source", "muted", "heard"),
    [
        ("PlauditAllDown", ["PlauditAbsentMetrics", "PlauditTargetDown", "PlauditNonFinite"], []),
        ("PlauditBurnFast", ["PlauditRejecting", "PlauditBurnSlow"], ["PlauditNonFinite"]),
        ("PlauditLatencyBurnFast", ["PlauditLatencyBurnSlow"], ["PlauditRejecting"]),
    ],
)
def test_one_outage_is_one_page(url: str, source: str, muted: list[str], heard: list[str]) -> None:
    """``job`` is the test's own, so that tests do not mute each other's alerts."""
    names = [source, *muted, *heard]
    fire(
        url,
        *({"alertname": name, **LABELS[name], "job": source, "cluster": source} for name in names),
    )
    wanted = {name: name in muted for name in names}
    wait_for("those, and no other, to be mute", lambda: mute(url, source) == wanted)


def test_an_outage_elsewhere_mutes_nothing(url: str) -> None:
    there = {"cluster": "two", "alertname": "PlauditAllDown", "namespace": "there", "job": "two"}
    here = {"cluster": "two", "alertname": "PlauditRejecting", "namespace": "here", "job": "two"}
    beside = here | {"alertname": "PlauditTargetDown", "namespace": "there"}
    fire(url, there, here, beside)
    wanted = {"PlauditAllDown": False, "PlauditRejecting": False, "PlauditTargetDown": True}
    wait_for("one namespace to be mute", lambda: mute(url, "two") == wanted)
