"""A dashboard of rows of panels, with the variables, links and times that all of them have."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from service.monitoring.boards.links import BOARDS, menu, uid
from service.monitoring.boards.panels import DATASOURCE, Panel

COLUMNS = 24
STAT_HEIGHT, HEIGHT = 5, 8

Row = tuple[str, Sequence[Panel]]


def board(
    name: str, text: str, rows: Sequence[Row], *more: dashboard.QueryVariable
) -> dashboard.Dashboard:
    """``text`` says which question the dashboard answers; ``more`` variables go after the four."""
    made = (
        dashboard.Dashboard(f"Plaudit / {BOARDS[name]}")
        .uid(uid(name))
        .description(text)
        .tags(["plaudit"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .variables([datasource(), *variables(), *more])
    )
    for link in menu(name):
        made.link(link)
    number = 0
    for title, panels in rows:
        made.with_row(dashboard.Row(title).id(100 + number))
        for panel in panels:
            number += 1
            made.with_panel(placed(panel, number, COLUMNS // len(panels)))
    return made


def placed(panel: Panel, number: int, width: int) -> Panel:
    kind = panel.build().type_val
    panel.id(number).span(width).height(STAT_HEIGHT if kind == "stat" else HEIGHT)
    return panel


def datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def variables() -> list[dashboard.QueryVariable]:
    of_job = '{job=~"$job"}'
    return [
        variable("job", "Job", "label_values(plaudit_build_info, job)"),
        variable("model", "Model", f"label_values(plaudit_model_info{of_job}, model)"),
        variable("instance", "Instance", f"label_values(plaudit_build_info{of_job}, instance)"),
    ]


def variable(name: str, label: str, values: str) -> dashboard.QueryVariable:
    """Any number of the values, all at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": values, "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text=["All"], value=["$__all"]))
    )
