"""What /openapi.json promises, held by requests that are made from it, good and bad.

No answer is a 500, each has a declared shape, and every problem says what mends it.
"""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

EXAMPLES, OF_OTHERS = 25, 8
OURS = ["/score", "/ensemble_score", "/models", "/livez", "/readyz"]


def operations(schema: Any) -> dict[str, Any]:
    found = (result.ok() for result in schema.get_all_operations())
    return {f"{one.method.upper()} {one.path}": one for one in found}


def exercise(
    operation: Any, mode: GenerationMode, url: str, check: Callable[..., None], examples: int
) -> None:
    with requests.Session() as session:

        @settings(
            max_examples=examples, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            check(case, case.call(base_url=url, session=session, timeout=60))

        ask()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_what_is_made_from_the_schema_is_answered_as_the_schema_says(
    schema: Any, url: str, mode: GenerationMode
) -> None:
    def check(case: Any, answer: Any) -> None:
        case.validate_response(answer, checks=[not_a_server_error, response_schema_conformance])
        if answer.status_code >= 400:
            problem = answer.json()
            assert problem["status"] == answer.status_code < 500
            assert problem["remedy"]

    for name, operation in operations(schema).items():
        bodyless = operation.method == "get"
        if name.split()[1] in OURS and not (bodyless and mode is GenerationMode.NEGATIVE):
            exercise(operation, mode, url, check, EXAMPLES)


def test_no_route_of_other_servers_answers_a_made_request_with_500(schema: Any, url: str) -> None:
    """They answer in the words of their servers, so only the status is held here."""

    def check(_: Any, answer: Any) -> None:
        assert answer.status_code != 500, answer.text

    asked = 0
    for name, operation in operations(schema).items():
        if name.startswith("POST") and name.split()[1] not in OURS:
            exercise(operation, GenerationMode.POSITIVE, url, check, OF_OTHERS)
            asked += 1
    assert asked > 5
