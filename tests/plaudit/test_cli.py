"""The command line: which command, which extra, which exit status."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from plaudit import cli

TRAIN = EntryPoint("train", "training.train:main", "plaudit.commands")


def test_an_unknown_command_exits_with_2_and_says_how_to_ask(capsys):
    assert cli.main(["sreve"]) == 2
    said = capsys.readouterr()
    assert "no command 'sreve'" in said.err
    assert "usage: plaudit COMMAND" in said.err
    assert said.out == ""


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_is_no_error(argv, capsys):
    assert cli.main(argv) == 0
    assert "usage: plaudit COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "missing", "extra"),
    [("serve", "fastapi", "service"), ("train", "peft", "training")],
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
