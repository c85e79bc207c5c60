"""What a service says that does not take a judge."""

from pathlib import Path

import httpx2
import pytest

from training.policy.judge_service import refusal

LOG = Path("runs/iterate/service.log")
PROBLEM = {
    "type": "about:blank", "title": "Refused", "status": 409, "detail": "no probes",
    "remedy": "write them", "retryable": False, "instance": "1",
}  # fmt: skip


def test_a_problem_is_told_in_its_own_words() -> None:
    assert refusal(httpx2.Response(409, json=PROBLEM), LOG) == "Refused: no probes; write them"


@pytest.mark.parametrize("body", ["Internal Server Error", "", "{}", "[1]"])
def test_of_any_other_answer_the_status_and_the_log_are_named(body: str) -> None:
    said = refusal(httpx2.Response(500, text=body), LOG)
    assert said == f"the service answered with 500; see {LOG}"
