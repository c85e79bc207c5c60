import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_alerts_is_fresh():
    fresh = runpy.run_path(str(DOCS / "alerts_table.py"))["render"]()
    _, found, rest = (DOCS / "monitoring.md").read_text().partition("<!-- alerts -->\n")
    written, closed, _ = rest.partition("<!-- /alerts -->")
    assert found
    assert closed
    assert written.strip() == fresh.strip(), "paste the output of: python docs/alerts_table.py"
