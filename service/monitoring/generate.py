"""Writes what is generated here: python -m service.monitoring.generate

Dashboards from their Python, and the PrometheusRule of Kubernetes from the rule files. Needs
grafana-foundation-sdk, of the dev extra. Validated against Prometheus and our own rules, not
against a Grafana server.
"""

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from service.monitoring.boards.cache import cache
from service.monitoring.boards.capacity import capacity
from service.monitoring.boards.latency import latency
from service.monitoring.boards.overview import overview
from service.monitoring.boards.reward_health import reward_health
from service.monitoring.boards.trainer import trainer

HERE = Path(__file__).parent
BOARDS = (overview, latency, reward_health, cache, capacity, trainer)


def files() -> dict[Path, str]:
    """Every generated file and what is in it."""
    boards = {HERE / "dashboards" / f"{name_of(make)}.json": drawn(make()) for make in BOARDS}
    return {**boards, HERE / "prometheusrule.yaml": prometheus_rule()}


def name_of(make: Callable[[], Dashboard]) -> str:
    """As in boards/links.py, which has the titles."""
    return make.__name__.replace("_", "-")


def drawn(board: Dashboard) -> str:
    encoded = json.loads(JSONEncoder().encode(board.build()))
    return json.dumps(encoded, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def prometheus_rule() -> str:
    """The rule files as one object for the Prometheus operator."""
    rules = sorted((HERE / "rules").glob("*.yml"))
    groups = [group for path in rules for group in yaml.safe_load(path.read_text())["groups"]]
    plain = json.loads(json.dumps(groups))  # what the files share by an anchor is written out
    made = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "plaudit", "labels": {"app.kubernetes.io/name": "plaudit"}},
        "spec": {"groups": plain},
    }
    head = "# Generated from rules/*.yml: python -m service.monitoring.generate\n"
    return head + yaml.safe_dump(made, sort_keys=False, width=100, allow_unicode=True)


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
