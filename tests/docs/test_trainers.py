"""docs/trainers.md names things that are there, and every option."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from plaudit.integrations.failures import NOTIONS
from plaudit.integrations.source import PREFIX, Options

PAGE = (Path(__file__).parents[2] / "docs" / "trainers.md").read_text()
DOTTED = sorted(set(re.findall(r"plaudit\.(?:integrations|testing)[\w.]*\w", PAGE)))
IMPORTS = re.findall(r"^from (plaudit[\w.]*) import (\w+)$", PAGE, re.MULTILINE)


def resolve(dotted: str) -> object:
    """The module of that name, or the attribute of one."""
    try:
        return import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return getattr(import_module(module), name)


@pytest.mark.parametrize("dotted", DOTTED)
def test_a_path_in_the_page_can_be_imported(dotted: str) -> None:
    assert resolve(dotted) is not None


@pytest.mark.parametrize(("module", "name"), IMPORTS)
def test_an_import_in_the_page_works(module: str, name: str) -> None:
    assert getattr(import_module(module), name, None) or import_module(f"{module}.{name}")


def test_every_trainer_with_a_function_has_its_line() -> None:
    assert {f"plaudit.integrations.{trainer}" for trainer in NOTIONS} <= {
        part for dotted in DOTTED for part in (dotted, dotted.rpartition(".")[0])
    }


def test_verls_line_names_a_function_of_its_module() -> None:
    [name] = set(re.findall(r"custom_reward_function\.name=(\w+)", PAGE))
    assert inspect.iscoroutinefunction(resolve(f"plaudit.integrations.verl.{name}"))


def test_the_table_of_options_is_whole() -> None:
    section = PAGE.partition("## Options")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(
        Options.__annotations__
    )


def test_variables_in_the_page_are_options() -> None:
    named = {name.lower() for name in re.findall(rf"{PREFIX}([A-Z_]*[A-Z])", PAGE)}
    assert named
    assert named <= set(Options.__annotations__)


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= anchors
