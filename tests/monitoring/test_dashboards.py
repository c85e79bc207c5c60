"""What Grafana's dashboard-linter asks of a dashboard, asked of the committed files."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from promql_reader import (
    BOARDS,
    RECORDED,
    RULES,
    Selector,
    annotations,
    chained_divisions,
    panels,
    parsed,
    queries,
    reads,
    variables,
)

from service.metrics import Metrics
from service.monitoring import generate
from service.scoring_routes import SCORING_ROUTES

# Of other exporters: their job and instance are not the service's.
FOREIGN = ("redis_", "DCGM_", "kube_")
UNITS = {"s", "short", "percentunit", "reqps", "cps", "bytes", "watt"}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def of_the_service(expr: str) -> Iterator[Selector]:
    return (one for one in reads(expr) if not one.metric.startswith(FOREIGN))


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """Every series name of a service: what its registry describes."""
    names = {"up"}
    for family in Metrics().registry.collect():
        endings = {
            "counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"],
        }.get(family.type, [""])  # fmt: skip
        names |= {family.name + ending for ending in endings}
    return names


def test_there_is_a_dashboard_for_each_question() -> None:
    assert set(BOARDS) == {
        "overview", "latency", "reward-health", "cache", "capacity", "trainer",
    }  # fmt: skip


def test_the_committed_files_are_what_the_generator_writes() -> None:
    for path, text in generate.files().items():
        assert path.read_text() == text, f"{path}: run python -m service.monitoring.generate"


@each_board
def test_every_metric_is_one_that_something_exports(
    board: dict[str, Any], exported: set[str]
) -> None:
    texts = [expr for _, expr in queries(board)]
    texts += [one["query"]["query"] for one in variables(board).values() if one["type"] == "query"]
    known = exported | set(RECORDED)
    for expr in texts:
        asked = re.sub(r"label_values\((.*), \w+\)", r"\1", expr)
        assert {one.metric for one in of_the_service(asked)} <= known, expr


def test_rules_read_only_what_something_exports(exported: set[str]) -> None:
    for rule in RULES:
        used = {one.metric for one in of_the_service(rule["expr"])}
        assert used <= exported | set(RECORDED), rule


def test_every_recorded_series_is_used() -> None:
    texts = [expr for board in BOARDS.values() for _, expr in queries(board)]
    texts += [rule["expr"] for rule in RULES]
    assert {one.metric for expr in texts for one in reads(expr)} >= set(RECORDED)


@each_board
def test_the_four_variables_are_there_and_follow_the_time_range(board: dict[str, Any]) -> None:
    found = variables(board)
    assert list(found)[:4] == ["datasource", "job", "model", "instance"]
    assert (found["datasource"]["type"], found["datasource"]["query"]) == (
        "datasource",
        "prometheus",
    )
    for one in list(found.values())[1:]:
        assert one["datasource"] == DATASOURCE
        assert (one["multi"], one["includeAll"], one["allValue"]) == (True, True, ".*")
        assert one["refresh"] == 2, one["name"]


@each_board
def test_every_variable_selects_something(board: dict[str, Any]) -> None:
    used = " ".join(expr for _, expr in queries(board))
    for name in list(variables(board))[1:]:
        assert f'"${name}"' in used, name


@each_board
def test_a_panel_says_what_it_shows_and_ends_in_its_metrics(board: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)
    for panel in panels(board):
        text, names = panel["description"].rsplit(": ", 1)
        assert len(text) > 15, panel["title"]
        used = [one.metric for target in panel["targets"] for one in reads(target["expr"])]
        plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
        assert set(names.split(", ")) == plain, panel["title"]


@each_board
def test_a_panel_has_targets_a_unit_thresholds_and_a_word_for_nothing(
    board: dict[str, Any],
) -> None:
    nothing = {
        "type": "special",
        "options": {"match": "null+nan", "result": {"text": "No traffic"}},
    }
    for panel in panels(board):
        assert panel["targets"], panel["title"]
        shown = panel["fieldConfig"]["defaults"]
        assert shown["unit"] in UNITS, panel["title"]
        assert nothing in shown["mappings"], panel["title"]
        steps = shown["thresholds"]["steps"]
        assert steps[0]["value"] is None
        values = [step["value"] for step in steps[1:]]
        assert values == sorted(values), panel["title"]


@each_board
def test_the_data_source_is_a_variable(board: dict[str, Any]) -> None:
    for panel in panels(board):
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == DATASOURCE
    for one in annotations(board):
        assert one["datasource"] == DATASOURCE


@each_board
def test_every_selector_follows_job_and_instance(board: dict[str, Any]) -> None:
    job, instance = ("job", "MatchOp.Re", "$job"), ("instance", "MatchOp.Re", "$instance")
    for title, expr in queries(board):
        for one in of_the_service(expr):
            # A recorded series is of a whole job.
            wanted = {job} if one.metric in RECORDED else {job, instance}
            assert one.matchers >= wanted, (title, expr)


@each_board
def test_counters_are_read_as_rates_over_the_scrape_aware_range(board: dict[str, Any]) -> None:
    for title, expr in queries(board):
        for one in reads(expr):
            grows = re.search(r"_(total|bucket|sum|count)$", one.metric) is not None
            assert grows == one.over_range == ("rate" in one.inside), (title, expr)
        assert expr.count("[") == expr.count("[$__rate_interval]"), (title, expr)


def test_a_quotient_of_quotients_says_which_is_which() -> None:
    texts = [expr for board in BOARDS.values() for _, expr in queries(board)]
    for expr in [*texts, *(rule["expr"] for rule in RULES)]:
        assert not chained_divisions(parsed(expr)), expr


@each_board
def test_nobody_edits_it_by_hand_and_its_panels_fill_the_grid(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in board["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells) == 24 * (1 + max(y for _, y in cells))


def test_the_scoring_routes_are_the_same_everywhere() -> None:
    texts = [rule["expr"] for rule in RULES]
    texts += [expr for board in BOARDS.values() for _, expr in queries(board)]
    regexes = {
        v for expr in texts for one in reads(expr) for n, _, v in one.matchers if n == "route"
    }
    assert regexes == {SCORING_ROUTES}


def test_the_edge_of_the_latency_objective_stands_once() -> None:
    edges = [
        (rule["record"], value)
        for rule in RECORDED.values()
        for one in reads(rule["expr"])
        for name, _, value in one.matchers
        if name == "le"
    ]
    assert edges == [("plaudit:slow_answers:rate5m", "0.25")]
