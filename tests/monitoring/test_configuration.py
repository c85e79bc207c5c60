"""The configuration of Prometheus and Alertmanager, and what Kubernetes makes of the folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_reader import ALERTS, BOARDS, MONITORING, RULES

ALERTMANAGER = MONITORING / "alertmanager.yml"

Tool = Callable[..., Any]


def test_promtool_accepts_the_configuration(tool: Tool) -> None:
    done = tool("promtool", "check", "config", "--syntax-only", MONITORING / "prometheus.yml")
    assert done.returncode == 0, done.stderr


def test_the_job_is_the_one_that_rules_name() -> None:
    (job,) = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    named = [rule for rule in RULES if "job=" in rule["expr"]]
    assert named
    for rule in named:
        assert f'job="{job["job_name"]}"' in rule["expr"] or 'job=~".*redis.*"' in rule["expr"]


def test_amtool_accepts_the_configuration(tool: Tool) -> None:
    done = tool("amtool", "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_an_alert_goes_to_the_receiver_of_its_severity(tool: Tool, severity: str) -> None:
    alerts = {rule["alert"] for rule in ALERTS if rule["labels"]["severity"] == severity}
    assert alerts
    done = tool(
        "amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}",
        f"--verify.receivers={severity}", f"severity={severity}", f"alertname={min(alerts)}",
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, severity), done.stderr


def test_an_alert_that_mutes_others_is_one_of_ours_and_so_are_they() -> None:
    names = {rule["alert"] for rule in ALERTS}
    for rule in yaml.safe_load(ALERTMANAGER.read_text())["inhibit_rules"]:
        (source,) = rule["source_matchers"]
        assert source.split('"')[1] in names
        exact = [one.split('"')[1] for one in rule["target_matchers"] if " = " in one]
        assert set(exact) <= names


def test_kustomize_makes_a_config_map_of_each_dashboard_and_the_rules(tool: Tool) -> None:
    done = tool("kubectl", "kustomize", MONITORING)
    assert done.returncode == 0, done.stderr
    made = list(yaml.safe_load_all(done.stdout))
    maps = [one for one in made if one["kind"] == "ConfigMap"]
    held = {name: json.loads(text) for one in maps for name, text in one["data"].items()}
    assert held == {f"{name}.json": board for name, board in BOARDS.items()}
    for one in maps:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert sum(map(len, one["data"].values())) < 2**18, "no room for kubectl apply's copy"
    (rules,) = [one for one in made if one["kind"] == "PrometheusRule"]
    assert rules["metadata"]["name"] == "plaudit"


def test_without_the_operator_the_dashboards_alone_can_be_had(tool: Tool) -> None:
    done = tool("kubectl", "kustomize", MONITORING / "dashboards")
    kinds = {one["kind"] for one in yaml.safe_load_all(done.stdout)}
    assert kinds == {"ConfigMap"}, Path(done.stderr)
