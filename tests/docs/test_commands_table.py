"""docs/commands.md says what the commands say, each of which can be loaded."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_commands_is_fresh():
    if sys.version_info[:2] != (3, 11):
        pytest.skip(
            "the page is what Python 3.11 prints; argparse of others breaks lines elsewhere"
        )
    done = subprocess.run(
        [sys.executable, DOCS / "commands_table.py"],
        capture_output=True, text=True, cwd=DOCS.parent, env=os.environ | {"PLAUDIT_PORT": "9"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    fresh, written = done.stdout.splitlines(), (DOCS / "commands.md").read_text().splitlines()
    assert written == fresh, "run: python docs/commands_table.py > docs/commands.md"


def test_the_page_has_every_command():
    text = (DOCS / "commands.md").read_text()
    missing = {one.name for one in entry_points(group="plaudit.commands")} - {
        line.removeprefix("### plaudit ") for line in text.splitlines()
    }
    assert not missing
