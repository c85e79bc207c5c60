"""The harmless commands of the pages are run, as they stand there, in a directory that has what the
pages talk about.

Run elsewhere: ``promtool check`` by tests/monitoring, ``docker-compose config`` by tests/deploy,
``mkdocs build`` by test_site.py, ``curl`` by test_requests.py. What is only parsed has its reason
here, in NOT_HERE, or in test_shell_blocks.py.
"""

import shlex
import shutil
from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks, commands
from shell import Shell

# First words of a command, and the folder of the workplace that the page gives it in.
RUN = {
    "plaudit dashboard write": ".",
    "plaudit doctor": ".",
    "plaudit scan": ".",
    "plaudit top --once": ".",
    "plaudit cache stats": ".",
    "plaudit cache purge": ".",
    "sh docker/secrets.sh": ".",
    "sh k8s/secrets.sh": ".",
    "kubectl kustomize": ".",
    "amtool": "monitoring",
}
NOT_HERE = {
    "plaudit bench": "loads a server for a minute; tests/service/tools runs it",
    "plaudit dashboard preview": "needs a Prometheus with a past; tests/monitoring runs it",
    "plaudit parity": "needs the reader's pairs; tests/service/test_parity.py runs it",
    "plaudit serve": "serves until it is ended; the fixture of these tests runs it",
    "plaudit top": "draws until it is ended, but for --once; tests/service/tools runs it",
}
SERVICE = {"bench", "cache", "dashboard", "doctor", "parity", "scan", "serve", "top"}
ASKS = ["plaudit", "cache", "purge", "--all"]
# Two looks of plaudit top need not lie ten seconds apart.
SHORTER = {"10": "0.2"}


def is_of(words: list[str], start: str) -> bool:
    return words[: len(start.split())] == start.split()


COMMANDS = [words for block in blocks() if block.language == "sh" for words in commands(block)]
FOUND = [words for words in COMMANDS if any(is_of(words, start) for start in RUN)]


@pytest.fixture(scope="module")
def workplace(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies: a script that writes beside itself must not do so in the repository."""
    root = tmp_path_factory.mktemp("workplace")
    for name in ("docker", "k8s", "service/monitoring"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copytree(demo / "runs", root / "runs")
    shutil.copytree(demo / "runs/demo/member-1", root / "downloads/some-model")
    (root / "duo.yaml").write_text("members: [runs/demo/member-0, runs/demo/member-1]\n")
    return root


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in FOUND])
def test_a_command_of_the_pages_does_what_it_is_there_for(
    words: list[str], shell: Shell, workplace: Path, redis: str, served: str
) -> None:
    if words[0] not in ("plaudit", "sh") and shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    here = [SHORTER.get(word, word).replace("http://plaudit:8000", served) for word in words]
    line = shlex.join(here)
    if words == ASKS:  # on a terminal, to which the shell's "y" goes
        line = shlex.join(["script", "--quiet", "--return", "--command", line, "/dev/null"])
    done = shell.run(line, workplace / folder_of(words), {"PLAUDIT_REDIS_URL": redis})

    assert done.returncode == 0, done.stdout


def folder_of(words: list[str]) -> str:
    return next(folder for start, folder in RUN.items() if is_of(words, start))


def test_every_command_of_the_service_is_run_or_has_a_reason() -> None:
    known = [*RUN, *NOT_HERE]
    mine = [words for words in COMMANDS if words[0] == "plaudit" and words[1] in SERVICE]

    assert not [words for words in mine if not any(is_of(words, start) for start in known)]
    for start in RUN:
        assert any(is_of(words, start) for words in COMMANDS), f"{start} is on no page"
