"""A service of one's own is that of the checkpoint, or it is refused."""

import random
import subprocess
import sys

import pytest

from plaudit.testing import FakeServer
from training.score.served import ServiceError
from training.service_process import PORTS, free_port, is_free, serving, wait_ready


def test_a_seed_of_random_decides_no_port():
    """Two trainings of one seed, beside each other, would each meet the other's service."""

    def drawn():
        random.seed(0)
        return [free_port() for _ in range(5)]

    assert drawn() != drawn()


def test_a_port_that_another_process_has_is_refused(judge, tmp_path):
    port = free_port()
    assert port in PORTS
    with (
        FakeServer(port=port),
        pytest.raises(ServiceError, match=f"another process listens on port {port}"),
        serving(judge, tmp_path / "log.txt", port=port),
    ):
        pass
    assert is_free(port)


def test_another_service_that_came_first_is_not_taken_for_ones_own(judge, tmp_path):
    """The process lives, and something answers; it is of another revision."""
    waits = [sys.executable, "-c", "input()"]
    with FakeServer() as other, subprocess.Popen(waits, stdin=subprocess.PIPE) as own:
        with pytest.raises(ServiceError, match="another service answers"):
            wait_ready(own, other.url, judge, tmp_path / "log.txt")
        own.communicate(b"\n")


def test_a_process_that_ends_is_named_with_its_log(judge, tmp_path):
    log = tmp_path / "log.txt"
    with (
        pytest.raises(ServiceError, match=r"ended with \d+: see .*log\.txt"),
        serving(judge, log, "--no-such-option"),
    ):
        pass
    assert "no-such-option" in log.read_text()
