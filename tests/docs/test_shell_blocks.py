"""Every command of the pages is one that its program takes.

``plaudit …`` and ``python FILE …`` are given to the program's own parser, which ends there;
the harmless ones are run by test_commands_run.py, and ``curl`` by test_requests.py. The others are
listed here with what keeps a test from them.
"""

import argparse
import runpy
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import pytest
from doc_blocks import ROOT, Block, blocks, commands

import training.settings
from plaudit.cli import main
from service import serve

NOT_RUN = {
    "docker": "needs a Docker engine; tests/deploy reads the files it is given",
    "kubectl": "needs a cluster, but for kustomize, which test_commands_run.py runs",
    "pip": "installs packages",
    "pip-audit": "asks a database of advisories on the internet",
    "openssl": "makes a secret for one of those",
    "printf": "writes a secret for one of those",
    "sed": "writes a manifest for kubectl",
    "export": "sets a variable for the next line",
    "curl": "run by test_requests.py",
    "redis-benchmark": "measures a redis-server of the reader's",
    "amtool": "run by test_commands_run.py",
    **dict.fromkeys(["nginx", "envoy"], "run by tests/chaos/test_restart.py, with other ports"),
    **dict.fromkeys(["redis-cli", "nvidia-smi", "df", "ls", "ss"], "looks at a running system"),
    **dict.fromkeys(
        ["head", "tail", "grep", "awk", "sort", "uniq", "find", "xargs", "sha256sum", "(cd"],
        "picks from what another command says",
    ),
}
# Of a trainer's own command line, of which the page shows our part.
OF_TRAINERS = {
    "--reward.remote_url", "--rm-type", "--dynamic-sampling-filter-path", "train.py",
    "verl.trainer.main_ppo",
}  # fmt: skip
FOUND = [
    (block, words) for block in blocks() if block.language == "sh" for words in commands(block)
]


class Parsed(BaseException):
    """The program has read its command line; nothing was run."""


def of(program: str) -> list[Any]:
    return [
        pytest.param(block, words[1:], id=f"{block} {' '.join(words[1:3])}")
        for block, words in FOUND
        if words[0] == program
    ]


@pytest.fixture
def parsing_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs end with Parsed once they have read their command line, and the file of settings
    that it names if the repository has it. An abbreviated option is an unknown one."""
    parse, load, load_server = (
        argparse.ArgumentParser.parse_args,
        training.settings.load,
        serve.load,
    )

    def parse_args(self: argparse.ArgumentParser, argv: Any = None, namespace: Any = None) -> Any:
        found = parse(self, argv, namespace)
        first = next(iter(sys.argv[1:] if argv is None else argv), "")
        if self.prog.startswith("plaudit") and ("=" in first or is_settings(first)):
            return found
        raise Parsed

    def load_settings(*given: Any, **more: Any) -> NoReturn:
        load(*given, **more)
        raise Parsed

    def load_served(argv: Sequence[str]) -> NoReturn:
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
        load_server(argv)
        raise Parsed

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(argparse.ArgumentParser, "_get_option_tuples", lambda *_: [])
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(training.settings, "load", load_settings)
    monkeypatch.setattr(serve, "load", load_served)


def is_settings(argument: str) -> bool:
    return argument.startswith("examples/") and (ROOT / argument).is_file()


@pytest.mark.parametrize(("block", "argv"), of("plaudit"))
@pytest.mark.usefixtures("parsing_only")
def test_a_command_is_understood_by_its_own_parser(
    block: Block, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for before in commands(block):
        if before[0] == "export":
            monkeypatch.setenv(*before[1].split("=", 1))
    with pytest.raises(Parsed):
        main(argv)


@pytest.mark.parametrize(("block", "argv"), of("python"))
@pytest.mark.usefixtures("parsing_only")
def test_a_program_is_there_and_understands_its_options(
    block: Block, argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if {*argv[:2]} & OF_TRAINERS:
        pytest.skip("a trainer's program; tests/docs/test_trainers.py holds what we add to it")
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "path", [str((ROOT / argv[0]).parent), *sys.path])
    if len(argv) == 1:
        compile((ROOT / argv[0]).read_text(), argv[0], "exec")
        return
    with pytest.raises(Parsed):
        runpy.run_path(argv[0], run_name="__main__")


@pytest.mark.parametrize(("block", "argv"), of("sh"))
def test_a_script_is_there(block: Block, argv: list[str]) -> None:
    assert (ROOT / argv[0]).is_file(), block


@pytest.mark.parametrize(("block", "argv"), of("make"))
def test_a_target_of_make_is_there(block: Block, argv: list[str]) -> None:
    assert f"\n{argv[0]}:" in (ROOT / "Makefile").read_text(), block


def test_no_command_is_left_unchecked() -> None:
    known = {"plaudit", "python", "make", "sh", *NOT_RUN, *OF_TRAINERS}
    unknown = [f"{block}: {words[0]}" for block, words in FOUND if program(words) not in known]

    assert not unknown, "run them, or say in NOT_RUN what keeps a test from it"


def program(words: list[str]) -> str:
    """The first word that sets no variable."""
    return next((word for word in words if "=" not in word or word.startswith("-")), words[0])
