"""The command line: which command, which extra, which exit status."""

import os
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from plaudit import cli

TRAIN = EntryPoint("train", "training.train:main", "plaudit.commands")


@pytest.mark.parametrize(
    ("name", "mends"),
    [
        ("serv", "did you mean plaudit serve?"),
        ("sreve", "did you mean plaudit serve?"),
        ("dashbord", "did you mean plaudit dashboard?"),
        ("wibble", "plaudit --help lists them"),
    ],
)
def test_an_unknown_command_exits_with_2_and_names_what_was_meant(name, mends, capsys):
    assert cli.main([name, "x"]) == 2
    said = capsys.readouterr()
    assert said.err == f"plaudit: no command {name!r}; {mends}\n"
    assert said.out == ""


@pytest.mark.parametrize(
    "argv",
    [
        ["bench", "http://127.0.0.1:1", "--second", "1"],
        ["cache", "purge", "--old", "3d"],
        ["dashboard", "preview", "--prom", "http://127.0.0.1:1"],
        ["dashboard", "write", "folder", "--forc"],
        ["doctor", "--serv", "http://127.0.0.1:1"],
        ["parity", "--tol", "1"],
        ["scan", "x", "--jso"],
        ["top", "http://127.0.0.1:1", "--onc"],
    ],
)
def test_half_an_option_is_no_option(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_is_no_error(argv, capsys):
    assert cli.main(argv) == 0
    assert "usage: plaudit COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [
        ("serve", "fastapi", "service"),
        ("train", "peft", "training"),
        ("train", "torch", "training"),
    ],
)
def test_a_missing_extra_prints_the_line_that_installs_it(command, missing, extra):
    point = f"{'service.serve' if extra == 'service' else 'training.train'}:main"
    program = (
        "import sys\n"
        "from importlib.metadata import EntryPoint\n"
        "from plaudit import cli\n"
        f"sys.modules[{missing!r}] = None\n"
        f"sys.exit(cli.run(EntryPoint({command!r}, {point!r}, 'plaudit.commands'), ['x']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    said = f"plaudit {command} needs {missing}: pip install 'plaudit[{extra}]'\n"
    assert done.stderr == said


def test_a_missing_module_of_no_extra_is_a_traceback():
    point = EntryPoint("odd", "no_such_module:main", "plaudit.commands")
    with pytest.raises(ModuleNotFoundError):
        cli.run(point, [])


def test_our_value_errors_are_one_sentence(tmp_path, capsys):
    missing = tmp_path / "none.yaml"
    assert cli.run(TRAIN, [str(missing)]) == 2
    assert capsys.readouterr().err == f"plaudit train: {missing}: no such settings file\n"


def test_a_foreign_value_error_keeps_its_traceback():
    point = EntryPoint("odd", "ipaddress:ip_address", "plaudit.commands")
    with pytest.raises(ValueError, match="does not appear to be"):
        cli.run(point, ["x"])


@pytest.mark.parametrize("arguments", [["--help"], ["scan", "--help"], ["scan", "."]], ids=str)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_left_ends_a_command_without_a_word(tmp_path, arguments, unbuffered):
    """As in ``plaudit scan DIR | head -1``: the status is that of the signal which ends others,
    or 0 where argparse itself takes no notice."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "plaudit.cli", *arguments],
        stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == ""
    by_argparse = unbuffered and "--help" in arguments[1:]
    assert done.returncode == (0 if by_argparse else 128 + signal.SIGPIPE)


def test_a_broken_pipe_of_the_commands_own_is_not_hidden(monkeypatch):
    def broken(_):
        raise BrokenPipeError("of a connection")

    monkeypatch.setattr(cli, "command", broken)
    with pytest.raises(BrokenPipeError, match="of a connection"):
        cli.main(["x"])
