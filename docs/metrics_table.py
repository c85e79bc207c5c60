"""Prints the table of the service's metrics for docs/operations.md: python docs/metrics_table.py"""

from prometheus_client.metrics import MetricWrapperBase

from service.metrics import Metrics


def render() -> str:
    """A Markdown table with a row for each metric, in the order of their declaration."""
    instruments = [v for v in vars(Metrics()).values() if isinstance(v, MetricWrapperBase)]
    rows = [["metric", "type", "labels", "meaning"], ["---"] * 4]
    rows += [row(instrument) for instrument in instruments]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(instrument: MetricWrapperBase) -> list[str]:
    (family,) = instrument.describe()
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in instrument._labelnames)
    return [f"`{name}`", family.type, labels, family.documentation.replace("|", "\\|")]


if __name__ == "__main__":
    print(render(), end="")
