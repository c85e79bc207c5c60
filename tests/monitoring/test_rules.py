"""Alert rules, with Prometheus's own tool as the judge of when they fire and when they are over."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_reader import ALERTS, MONITORING

RULE_FILES = sorted(MONITORING.glob("rules/*.yml"))
TEST_FILES = sorted(Path(__file__).parent.glob("rules/*.yml"))
NAMES = {rule["alert"] for rule in ALERTS}
BASE = "https://github.com/plaudit/plaudit/blob/main/"

Tool = Callable[..., Any]


def test_promtool_accepts_every_rule_file(tool: Tool) -> None:
    done = tool("promtool", "check", "rules", *RULE_FILES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_and_resolves_as_its_test_file_says(tool: Tool) -> None:
    done = tool("promtool", "test", "rules", *TEST_FILES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_lacks_a_test_that_it_fires_and_one_that_it_resolves_after() -> None:
    fired: list[tuple[int, dict[str, str]]] = []
    quiet: dict[str, int] = defaultdict(int)
    for path in TEST_FILES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for one in case["alert_rule_test"]:
                name, at = one["alertname"], minutes(one["eval_time"])
                fired += [(at, {"alert": name} | e["exp_labels"]) for e in one["exp_alerts"]]
                if not one["exp_alerts"]:
                    quiet[name] = max(quiet[name], at)
    for rule in ALERTS:
        wanted = {"alert": rule["alert"], **rule["labels"]}
        times = [at for at, labels in fired if wanted.items() <= labels.items()]
        assert times, f"no test sees {wanted} fire"
        assert quiet[rule["alert"]] > min(times), f"no test sees {wanted} resolve"


def minutes(time: str) -> int:
    return int(time[:-1]) * {"m": 1, "h": 60}[time[-1]]


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_an_alert_says_how_bad_it_is_what_it_means_and_where_to_read_on(
    root: Path, rule: dict[str, Any]
) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook_url"}
    assert said["runbook_url"] == f"{BASE}docs/runbooks/{rule['alert']}.md"
    page = (root / said["runbook_url"].removeprefix(BASE)).read_text()
    assert page.startswith(f"# {rule['alert']}\n")
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["## What it means", "## Why", "## What to do"]
    assert "```" in page.partition("## Why")[2].partition("## What to do")[0], "name the command"


def test_every_runbook_is_an_alerts(root: Path) -> None:
    assert {path.stem for path in (root / "docs" / "runbooks").glob("*.md")} == NAMES


def test_the_object_of_kubernetes_has_the_same_rules(tool: Tool, tmp_path: Path) -> None:
    made = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())
    assert (made["apiVersion"], made["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    groups = [g for path in RULE_FILES for g in yaml.safe_load(path.read_text())["groups"]]
    assert made["spec"]["groups"] == groups
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(made["spec"]))
    assert tool("promtool", "check", "rules", tmp_path / "rules.yml").returncode == 0
