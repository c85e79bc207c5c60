import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from service import timings


@pytest.fixture(scope="module")
def steps(root: Path) -> list[tuple[str, str]]:
    """(instruction, arguments), comments gone and continued lines joined."""
    lines = (root / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", text).splitlines()
    pairs = [line.split(maxsplit=1) for line in joined if line.strip()]
    return [(instruction, arguments) for instruction, arguments in pairs]


def last(steps: list[tuple[str, str]], instruction: str) -> str:
    return [arguments for name, arguments in steps if name == instruction][-1]


def final_stage(steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    starts = [n for n, (name, _) in enumerate(steps) if name == "FROM"]
    return steps[starts[-1] :]


def environment(steps: list[tuple[str, str]]) -> dict[str, str]:
    words = [
        w for name, arguments in final_stage(steps) if name == "ENV" for w in arguments.split()
    ]
    return dict(word.split("=", 1) for word in words)


def test_hadolint_finds_nothing(root: Path, tool: Callable[[str], str]) -> None:
    command = [tool("hadolint"), "--failure-threshold", "style", "Dockerfile"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_runs_as_a_numeric_user_that_is_not_root(steps: list[tuple[str, str]]) -> None:
    assert last(final_stage(steps), "USER") == "10001:10001"


def test_the_image_serves_without_a_shell(steps: list[tuple[str, str]]) -> None:
    command = json.loads(last(steps, "ENTRYPOINT")) + json.loads(last(steps, "CMD"))
    assert command == ["plaudit", "serve", "/models/warm", "--host", "0.0.0.0"]


def test_everything_the_image_writes_goes_to_tmp(steps: list[tuple[str, str]]) -> None:
    folders = {k: v for k, v in environment(steps).items() if re.search("HOME|CACHE_DIR$", k)}
    assert folders
    assert all(v.startswith("/tmp") for v in folders.values()), folders


def test_the_image_fetches_no_model(steps: list[tuple[str, str]]) -> None:
    assert environment(steps)["HF_HUB_OFFLINE"] == "1"


def test_only_the_image_of_vllm_has_the_compiler_that_triton_calls(
    steps: list[tuple[str, str]],
) -> None:
    final = final_stage(steps)
    (installs,) = [words for name, words in final if name == "RUN" and "apt-get" in words]
    assert ("ARG", "EXTRA") in final
    assert installs.startswith('[ "$EXTRA" != vllm ] || {')
    assert {"--no-install-recommends", "gcc", "libc6-dev"} <= set(installs.split())
    assert "rm -rf /var/lib/apt/lists/*" in installs


def test_one_port(steps: list[tuple[str, str]]) -> None:
    assert last(steps, "EXPOSE") == environment(steps)["PLAUDIT_PORT"]


def test_environment_variables_are_settings(
    steps: list[tuple[str, str]], settings: set[str]
) -> None:
    assert {k for k in environment(steps) if k.startswith("PLAUDIT_")} <= settings


def test_requirements_are_installed_by_their_hashes_and_the_project_from_them_alone(
    steps: list[tuple[str, str]],
) -> None:
    installs = [
        words for name, words in steps if name == "RUN" and re.search("pip (inst|wh)", words)
    ]
    kinds = [
        "hashes" if "--require-hashes" in words else "offline" if "--no-index" in words else "torch"
        for words in installs
    ]
    assert kinds == ["hashes", "offline", "hashes", "torch", "offline"]
    assert installs[-1].endswith("&& pip check")


def test_there_is_a_lock_for_each_extra_that_may_be_named(
    root: Path, steps: list[tuple[str, str]]
) -> None:
    (choice,) = [words for name, words in steps if name == "RUN" and words.startswith("case")]
    pairs = [pair.split() for pair in re.findall(r'"(\w+ \w+)"', choice)]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert {extra for _, extra in pairs} == {"service", "training", "vllm"} <= set(extras)
    for _, extra in pairs:
        assert (root / "docker" / "requirements" / f"{extra}.txt").exists()


def test_the_health_check_leaves_a_slow_model_its_time(steps: list[tuple[str, str]]) -> None:
    (minutes,) = re.findall(r"--start-period=(\d+)m", last(steps, "HEALTHCHECK"))
    assert int(minutes) * 60 >= timings.START_SECONDS


def test_torch_is_pinned_and_its_extra_index_reaches_nothing_else(
    root: Path, steps: list[tuple[str, str]]
) -> None:
    assert re.search(r"^torch==", (root / "constraints.txt").read_text(), re.MULTILINE)
    installs = [
        arguments for name, arguments in steps if name == "RUN" and "pip install" in arguments
    ]
    (extra,) = [install for install in installs if "TORCH_INDEX_URL" in install]
    assert extra.endswith("-c constraints.txt torch")


def test_no_index_is_named(root: Path) -> None:
    assert "://" not in re.sub(r"http://127\.0\.0\.1\S*", "", (root / "Dockerfile").read_text())


def test_the_build_context_is_what_the_build_copies(
    root: Path, steps: list[tuple[str, str]]
) -> None:
    copies = [arguments.split()[:-1] for name, arguments in steps if name == "COPY"]
    of_context = [sources for sources in copies if not sources[0].startswith("--from=")]
    copied = {source for sources in of_context for source in sources}
    lines = (root / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    # A folder stands for the files in it.
    assert {next((a for a in allowed if s.startswith(f"{a}/")), s) for s in copied} == allowed
    assert all((root / source).exists() for source in copied)


class _Ready(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), _Ready) as made:
        Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def health(steps: list[tuple[str, str]], port: int) -> int:
    """The exit status of the health check, for a server on this port."""
    check = json.loads(re.split(r"CMD (?=\[)", last(steps, "HEALTHCHECK"))[-1])
    assert check[0] == "python"
    # A proxy in the environment must not be asked about a server on this machine.
    env = os.environ | {"PLAUDIT_PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, *check[1:]]
    return subprocess.run(command, env=env, capture_output=True, check=False, timeout=30).returncode


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_readiness(
    steps: list[tuple[str, str]],
    server: HTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    healthy: bool,
) -> None:
    monkeypatch.setattr(_Ready, "status", status)
    assert (health(steps, server.server_port) == 0) is healthy


def test_the_health_check_fails_without_a_server(steps: list[tuple[str, str]]) -> None:
    assert health(steps, port=9) != 0
