"""The service of a run of rounds: one process, in which one judge takes the place of the other."""

import os
import secrets
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx2
import msgspec
import yaml

from plaudit import checkpoint
from plaudit.client import RewardClient
from plaudit.whole_file import write_whole
from plaudit.wire import Problem
from training.score.served import KEY, ServiceError
from training.service_process import free_port, started

# What it is called, whichever checkpoint it is.
NAME = "judge"
CONFIG = "service.yaml"
# For a judge to be loaded, however busy the machine.
PATIENCE_SECONDS = 3600.0


class JudgeService:
    """Begins with the first judge that is given. Judges are directories in ``root``, or one that is
    given for all rounds and lies elsewhere."""

    def __init__(self, directory: Path, root: Path, port: int, dtype: str):
        self._directory, self._root, self._port, self._dtype = directory, root, port, dtype
        self._admin_port, self._key = 0, secrets.token_hex(24)
        self._held, self._url = ExitStack(), ""
        self._log = directory / "service.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def of(self, judge: Path) -> str:
        """The URL, where requests are from now on answered by ``judge``. ServiceError where it
        could not be started, or refuses the judge."""
        revision = checkpoint.read(judge)[1]
        if not self._url:
            self._url = self._start(judge)
        elif self._served() != revision:
            self._swap(judge)
        return self._url

    def _start(self, judge: Path) -> str:
        """With a key that its environment holds, and no command line."""
        self._root.mkdir(exist_ok=True)
        self._admin_port = free_port()
        config = self._directory / CONFIG
        write_whole(config, yaml.safe_dump({"models": {NAME: str(judge.resolve())}}).encode())
        flags = [
            *("--config", str(config), "--dtype", self._dtype),
            *("--admin-port", str(self._admin_port), "--model-root", str(self._root)),
        ]
        environment = {"PLAUDIT_ADMIN_KEYS": f"iterate:{self._key}"}
        given = started(flags, judge, self._log, self._port, environment)
        return self._held.enter_context(given)

    def _served(self) -> str:
        with RewardClient(self._url, os.environ.get(KEY)) as client:
            return client.models()[0].revision

    def _swap(self, judge: Path) -> None:
        url = f"http://127.0.0.1:{self._admin_port}/admin/swap"
        asked = {"model": NAME, "checkpoint": judge.name}
        headers = {"Authorization": f"Bearer {self._key}"}
        try:
            answer = httpx2.post(url, json=asked, headers=headers, timeout=PATIENCE_SECONDS)
        except httpx2.HTTPError as error:
            raise ServiceError(f"{url}: {error or type(error).__name__}") from error
        if not answer.is_success:
            raise ServiceError(f"{judge}: {refusal(answer, self._log)}")
        print(f"{self._url} is answered by {judge}", file=sys.stderr)


def refusal(answer: httpx2.Response, log: Path) -> str:
    """Why a judge was refused; ``log`` is the service's, for an answer that is no problem."""
    try:
        problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.DecodeError:
        return f"the service answered with {answer.status_code}; see {log}"
    return f"{problem.title}: {problem.detail}; {problem.remedy}"
