import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_settings_is_fresh():
    fresh = runpy.run_path(str(DOCS / "settings_table.py"))["render"]()
    _, found, rest = (DOCS / "serving.md").read_text().partition("<!-- settings -->\n")
    written, closed, _ = rest.partition("<!-- /settings -->")
    assert found
    assert closed
    assert written.strip() == fresh.strip(), "paste the output of: python docs/settings_table.py"
