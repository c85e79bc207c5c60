"""The kinds of panel: graph, stat, heatmap. Each says what it shows and names its metrics."""

from typing import TypeVar

from grafana_foundation_sdk.builders import heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardSpecialValueMapOptions,
    DataSourceRef,
    SpecialValueMap,
    SpecialValueMatch,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from service.monitoring.boards.levels import CALM, Levels
from service.monitoring.boards.promql import Query, metrics_in

Panel = timeseries.Panel | stat.Panel | heatmap.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, heatmap.Panel)

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
NO_TRAFFIC = SpecialValueMap(
    DashboardSpecialValueMapOptions(
        SpecialValueMatch.NULL_AND_NAN, ValueMappingResult(text="No traffic")
    )
)


def graph(
    title: str, text: str, unit: str, *queries: Query, levels: Levels = CALM, low: float | None = 0
) -> timeseries.Panel:
    """Lines over time. ``low`` is the axis's end; None where values may be negative."""
    made = _described(timeseries.Panel(), title, text, queries).unit(unit)
    made.mappings([NO_TRAFFIC]).thresholds(levels.build())
    made.draw_style(common.GraphDrawStyle.LINE).show_points(common.VisibilityMode.NEVER)
    made.tooltip(
        VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )
    made.legend(
        VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    if low is not None:
        made.min(low)
    if levels.drawn:
        style = GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.LINE)
        made.thresholds_style(style)
    return made


def stacked(title: str, text: str, unit: str, *queries: Query) -> timeseries.Panel:
    """Bands on top of each other: their sum is what the top says."""
    return (
        graph(title, text, unit, *queries)
        .fill_opacity(40)
        .stacking(StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    )


def stat_of(title: str, text: str, unit: str, query: Query, levels: Levels = CALM) -> stat.Panel:
    """One number, its colour, and a line of how it got there."""
    return (
        _described(stat.Panel(), title, text, (query,))
        .unit(unit)
        .mappings([NO_TRAFFIC])
        .thresholds(levels.build())
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(ReduceDataOptions().calcs(["last"]))
    )


def heat(title: str, text: str, unit: str, buckets: str) -> heatmap.Panel:
    """A histogram over time. ``buckets`` is an expression with the label le."""
    made = _described(heatmap.Panel(), title, text, (Query(buckets, "{{le}}"),), as_heat=True)
    made.unit(unit).mappings([NO_TRAFFIC]).thresholds(CALM.build()).calculate(False)
    made.y_axis(heatmap.YAxisConfig().unit(unit))
    made.cell_values(heatmap.CellValues().unit("cps"))
    colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    return made.color(colors).filter_values(heatmap.FilterValueRange().le(1e-9))


def states(*words: str) -> list[ValueMapping]:
    """Words for 0, 1, and so on; the first is the healthy one."""
    named = {
        str(value): ValueMappingResult(text=word, color="red" if value else "green", index=value)
        for value, word in enumerate(words)
    }
    return [ValueMap(named), NO_TRAFFIC]


def _described(
    made: P, title: str, text: str, queries: tuple[Query, ...], as_heat: bool = False
) -> P:
    """The text ends in the metrics' names, so that a search for one leads here."""
    metrics = [name for query in queries for name in metrics_in(query.expr)]
    made.title(title).description(f"{text}: {', '.join(dict.fromkeys(metrics))}")
    made.datasource(DATASOURCE)
    for number, query in enumerate(queries):
        target = _target(query).ref_id(chr(ord("A") + number))
        made.with_target(target.format(PromQueryFormat.HEATMAP) if as_heat else target)
    return made


def _target(query: Query) -> prometheus.Dataquery:
    made = prometheus.Dataquery().datasource(DATASOURCE).range()
    return made.expr(query.expr).legend_format(query.legend)
