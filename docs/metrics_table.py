"""Prints the table of the service's metrics for docs/operations.md: python docs/metrics_table.py"""

from collections.abc import Iterator

from prometheus_client.core import Metric

from service.metrics import Metrics


def render() -> str:
    """A Markdown table with a row for each metric, in the order of their declaration."""
    rows = [["metric", "type", "labels", "meaning"], ["---"] * 4, *map(row, families())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def families() -> Iterator[tuple[Metric, tuple[str, ...]]]:
    """Each metric of the service's own, and the names of its labels."""
    for instrument in Metrics().registry._collector_to_names:
        for family in getattr(instrument, "describe", list)():
            # Of a Counter or its like; what is read at a scrape has them in its family.
            own = getattr(instrument, "_labelnames", None)
            yield family, family._labelnames if own is None else own


def row(described: tuple[Metric, tuple[str, ...]]) -> list[str]:
    family, labelnames = described
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in labelnames)
    return [f"`{name}`", family.type, labels, family.documentation.replace("|", "\\|")]


if __name__ == "__main__":
    print(render(), end="")
