"""/openapi.json through schemathesis as a user runs it: examples, coverage, fuzzing, and sequences
of requests along the links of the schema.

Bounded and with one seed; with --long many more examples, from --seed.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.checks import not_a_server_error

OURS = ("/score", "/ensemble_score", "/models", "/livez", "/readyz")
PHASES = ("examples", "coverage", "fuzzing", "stateful")
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "unsupported_method",
    "allow_header_conformance", "missing_required_header", "negative_data_rejection",
)  # fmt: skip


def test_all_phases_find_nothing(url: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    examples = 300 if pytestconfig.getoption("long") else 8
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json",
            "--phases", ",".join(PHASES), "--checks", ",".join(CHECKS),
            "--max-examples", str(examples), "--seed", str(pytestconfig.getoption("seed")),
            "--generation-database", "none", "--report-json-path", report, "--no-color",
            *(f"--include-path={path}" for path in OURS),
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert {name for name, phase in found["phases"].items() if phase["status"] == "success"} == (
        set(PHASES)
    )
    assert found["test_cases"]["generated"] > 100


def test_links_lead_where_they_say(url: str, schema: Any, pytestconfig: pytest.Config) -> None:
    """From the list to a score, and from a score to one of the same revision, which nobody meets by
    chance."""
    listed = requests.get(f"{url}/models", timeout=60).json()["models"]
    loaded = {one["revision"] for one in listed}
    seen: Counter[str] = Counter()

    class Sequences(schema.include(path=list(OURS)).as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"base_url": url, "timeout": 60}

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            case.validate_response(response, checks=[not_a_server_error])
            pinned = case.body.get("revision") if isinstance(case.body, dict) else None
            if pinned is not None and response.status_code == 200:
                assert response.json()["revision"] == pinned
                seen[case.path] += 1
            if response.status_code == 409:
                assert response.json()["revision"] in loaded - {pinned}

    run_state_machine_as_test(
        Sequences,
        settings=settings(
            max_examples=300 if pytestconfig.getoption("long") else 12, stateful_step_count=6,
            derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
    assert seen["/score"], seen
    assert seen["/ensemble_score"], seen


@pytest.mark.parametrize("path", ["/score", "/ensemble_score"])
def test_a_refused_revision_leads_to_the_loaded_one(url: str, schema: Any, path: str) -> None:
    (link,) = schema.raw_schema["paths"][path]["post"]["responses"]["409"]["links"].values()
    refused = requests.post(
        f"{url}{path}", json=link["requestBody"] | {"revision": "x"}, timeout=60
    )
    assert refused.status_code == 409
    assert link["requestBody"]["revision"] == "$response.body#/revision"
    again = link["requestBody"] | {"revision": refused.json()["revision"]}
    assert requests.post(f"{url}{path}", json=again, timeout=60).status_code == 200
