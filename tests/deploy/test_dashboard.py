import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

LABEL_VALUES = r"label_values\((\w+)"
# What prometheus-client appends to the name a metric is declared with.
SUFFIX = r"_(total|bucket|sum|count|info)$"


@pytest.fixture(scope="module")
def dashboard(root: Path) -> dict[str, Any]:
    path = root / "docker" / "grafana" / "dashboards" / "latency.json"
    made: dict[str, Any] = json.loads(path.read_text())
    return made


@pytest.fixture(scope="module")
def queries(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def metrics_in(expr: str) -> set[str]:
    return set(re.findall(r"\bplaudit_\w+", expr))


def base(metric: str) -> str:
    return re.sub(SUFFIX, "", metric)


def test_the_committed_file_is_what_the_generator_writes(root: Path) -> None:
    folder = root / "docker" / "grafana"
    fresh = runpy.run_path(str(folder / "latency.py"))["render"]()
    committed = (folder / "dashboards" / "latency.json").read_text()
    assert committed == fresh, "run: python docker/grafana/latency.py"


def test_every_metric_is_one_the_service_declares(
    root: Path, dashboard: dict[str, Any], queries: list[str]
) -> None:
    definitions = [v["definition"] for v in dashboard["templating"]["list"] if "definition" in v]
    used = set().union(*(metrics_in(text) for text in [*queries, *definitions]))
    sources = "".join(path.read_text() for path in (root / "service/metrics").glob("*.py"))
    declared = set(re.findall(r"""["'](plaudit_\w+)["']""", sources))
    assert {base(name) for name in used} <= {base(name) for name in declared}


def test_a_panel_says_what_it_shows_and_names_its_metrics(dashboard: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles)
    for panel in dashboard["panels"]:
        text, names = panel["description"].rsplit(": ", 1)
        assert len(text) > 20, panel["title"]
        used = set().union(*(metrics_in(target["expr"]) for target in panel["targets"]))
        assert {base(name) for name in names.split(", ")} == {base(name) for name in used}
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["mappings"], panel["title"]


def test_the_data_source_is_a_variable(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_every_selector_follows_the_job_and_instance_variables(
    dashboard: dict[str, Any], queries: list[str]
) -> None:
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names[:3] == ["datasource", "job", "instance"]
    for expr in queries:
        selectors = re.findall(r"\bplaudit_\w+(\{[^}]*\})?", expr)
        assert selectors
        assert all('job=~"$job",instance=~"$instance"' in s for s in selectors), expr


def test_counters_and_histograms_are_read_as_rates_over_the_scrape_aware_range(
    queries: list[str],
) -> None:
    for expr in queries:
        growing = re.findall(r"plaudit_\w+_(?:total|bucket|sum|count)\{", expr)
        rated = re.findall(r"rate\(plaudit_\w+\{[^}]*\}\[\$__rate_interval\]\)", expr)
        assert len(growing) == len(rated) == expr.count("["), expr


def test_queries_are_promql(queries: list[str]) -> None:
    promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")
    for expr in queries:
        promql.parse(expr.replace("$__rate_interval", "1m"))


def test_panels_fill_the_grid_without_overlap(dashboard: dict[str, Any]) -> None:
    cells = [
        (x, y)
        for panel in dashboard["panels"]
        for grid in [panel["gridPos"]]
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert len(cells) == 24 * (1 + max(y for _, y in cells))
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_provisioned_dashboard_is_not_editable(dashboard: dict[str, Any]) -> None:
    assert dashboard["editable"] is False
    assert dashboard["uid"] == "plaudit-latency"
