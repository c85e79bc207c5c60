"""Prints the table of the server's settings for docs/serving.md: python docs/settings_table.py"""

from typing import Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from service.settings import PREFIX, Settings

# Every other setting is a flag of its own name.
ARGUMENTS = {"models": "MODEL …"}


def render() -> str:
    """A Markdown table with a row for each setting, in the order of ``plaudit serve --help``."""
    rows = [["flag", "variable", "default", "meaning"], ["---"] * 4]
    rows += [row(name, field) for name, field in Settings.model_fields.items()]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def row(name: str, field: FieldInfo) -> list[str]:
    flag = ARGUMENTS.get(name, "--" + name.replace("_", "-"))
    variable = PREFIX + name.upper()
    meaning = (field.description or "").removesuffix(f" [{variable}]")
    if get_origin(field.annotation) is Literal:
        meaning += f" ({', '.join(get_args(field.annotation))})"
    return [f"`{flag}`", f"`{variable}`", default(field.default), meaning.replace("|", "\\|")]


def default(value: object) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value in (None, "", []) else str(value)


if __name__ == "__main__":
    print(render(), end="")
