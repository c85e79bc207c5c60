import json
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "results" / "chaos.jsonl"


def test_the_table_of_promises_is_fresh():
    fresh = runpy.run_path(str(DOCS / "reliability_table.py"))["render"]()
    _, found, rest = (DOCS / "reliability.md").read_text().partition("<!-- promises -->\n")
    written, closed, _ = rest.partition("<!-- /promises -->")
    assert found
    assert closed
    assert written.strip() == fresh.strip(), "paste the output of: python docs/reliability_table.py"


def test_every_promise_is_of_a_test_that_is_there_and_nothing_was_lost_or_wrong():
    lines = [json.loads(line) for line in FIGURES.read_text().splitlines()]
    assert len(lines) > 20
    for line in lines:
        file, _, test = line["test"].partition("::")
        assert f"def {test.partition('[')[0]}(" in (DOCS.parent / file).read_text(), line["test"]
        assert (line["counted"]["lost"], line["counted"]["wrong"]) == (0, 0)
