import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_metrics_is_fresh():
    fresh = runpy.run_path(str(DOCS / "metrics_table.py"))["render"]()
    _, found, rest = (DOCS / "operations.md").read_text().partition("<!-- metrics -->\n")
    written, closed, _ = rest.partition("<!-- /metrics -->")
    assert found
    assert closed
    assert written.strip() == fresh.strip(), "paste the output of: python docs/metrics_table.py"
