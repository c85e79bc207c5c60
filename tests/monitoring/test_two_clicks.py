"""A new operator can answer "why is p99 high?" from the overview in two clicks."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from promql_reader import BOARDS, panels, reads, variables

from service.monitoring.boards.overview import DURATION

BY_UID = {board["uid"]: board for board in BOARDS.values()}
# What a panel's own links need: the time range and every variable.
TAKEN_ALONG = "${__url_time_range}&${__all_variables}"

each_board = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def data_links(panel: dict[str, Any]) -> list[str]:
    return [link["url"] for link in panel["fieldConfig"]["defaults"].get("links", [])]


def every_url(board: dict[str, Any]) -> Iterator[str]:
    yield from (link["url"] for link in board["links"])
    for panel in panels(board):
        yield from data_links(panel)
        yield from (link["url"] for link in panel.get("links", []))


def target(url: str) -> dict[str, Any]:
    """The dashboard that a link leads to; KeyError for one that is not there."""
    path = urlsplit(url).path
    matched = re.fullmatch(r"/d/([\w-]+)", path)
    assert matched, url
    return BY_UID[matched[1]]


def test_uids_are_unique_and_short_enough_for_grafana() -> None:
    assert len(BY_UID) == len(BOARDS)
    assert all(len(uid) <= 40 for uid in BY_UID)


@each_board
def test_every_link_leads_to_a_dashboard_that_is_there(board: dict[str, Any]) -> None:
    for url in every_url(board):
        assert target(url)["uid"] != board["uid"]


@each_board
def test_every_other_dashboard_is_one_click_away_with_what_is_selected(
    board: dict[str, Any],
) -> None:
    assert {target(link["url"])["uid"] for link in board["links"]} == set(BY_UID) - {board["uid"]}
    assert all(link["includeVars"] and link["keepTime"] for link in board["links"])
    own = set(variables(board))
    for panel in panels(board):
        for url in data_links(panel):
            assert urlsplit(url).query == TAKEN_ALONG
            assert own - {"client"} <= set(variables(target(url)))


def test_the_first_click_leads_from_p99_to_the_latency_anatomy() -> None:
    of_p99 = [
        panel
        for panel in panels(BOARDS["overview"])
        if any(
            "histogram_quantile(0.99" in one["expr"] and DURATION in one["expr"]
            for one in panel["targets"]
        )
    ]
    assert {panel["type"] for panel in of_p99} == {"stat", "timeseries"}
    for panel in of_p99:
        (url,) = data_links(panel)  # one link only: Grafana follows it without a menu
        assert target(url) is BOARDS["latency"]


def test_there_the_first_row_says_admission_queue_tokenising_compute_or_cache() -> None:
    first = panels(BOARDS["latency"])[:5]
    stages = {}
    for panel in first:
        (query,) = panel["targets"]
        (read,) = reads(query["expr"])
        assert read.metric == "plaudit_stage_duration_seconds_bucket"
        stages[panel["title"]] = {value for name, _, value in read.matchers if name == "stage"}
    assert stages == {
        "Admission, p99": {"admit"},
        "Queue, p99": {"queue"},
        "Tokenise, p99": {"tokenize"},
        "Compute, p99": {"compute"},
        "Cache, p99": {"cache_.*"},
    }
    assert len({panel["gridPos"]["y"] for panel in first}) == 1


def test_the_second_click_leads_from_a_stage_to_what_it_waits_for() -> None:
    second = [target(data_links(panel)[0])["uid"] for panel in panels(BOARDS["latency"])[:5]]
    assert second == ["plaudit-capacity"] * 4 + ["plaudit-cache"]
