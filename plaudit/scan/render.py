"""A program of its own: renders the chat template that it is given, under limits.

It is run as ``python -I render.py`` and imports nothing of Plaudit. It writes what is wrong.
"""

import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 2
MEMORY = 512 * 2**20
MAX_LOOPS_IN_LOOPS = 5
# Characters for each of a conversation, and besides.
MAX_GROWTH, MAX_FRAME = 8, 200_000
DATED = "reads the date"
LONG = "It was a long day. " * 1000


class Generation(Extension):
    """Transformers' own tag around what an assistant says: here only its body."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own attribute

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """As Transformers makes it for chat templates."""
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    found.filters["tojson"] = tojson
    found.globals["raise_exception"] = refuse_turns
    found.globals["strftime_now"] = lambda format: "1 January 2026"
    return found


def tojson(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **how)


class RefusedTurns(TemplateError):
    """A template that does not take these turns, and says so."""


def refuse_turns(_: str) -> None:
    raise RefusedTurns


def conversations() -> Iterator[list[dict[str, str]]]:
    def turns(*contents: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]

    yield turns("Hi", "Hello")
    yield [{"role": "system", "content": "Be brief."}, *turns("Hi", "Hello")]
    yield turns(*(["So?", "So."] * 32))
    yield turns(LONG, LONG)


def judge(text: str) -> str:
    """What is wrong with a template, in words that follow "the template"; empty if nothing is."""
    made = environment()
    try:
        tree = made.parse(text)
    except (TemplateSyntaxError, RecursionError):
        return "is no template of Jinja"
    wrong = by_its_words(tree)
    return wrong or by_its_work(made, text, tree)


def by_its_words(tree: nodes.Template) -> str:
    """What is refused however a template is used."""
    foreign = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
    if next(tree.find_all(foreign), None) is not None:
        return "reads other templates"
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Const, nodes.Name)):
        if any(word.startswith("__") and word.endswith("__") for word in words(node)):
            return "reaches for Python's internals"
    if depth(tree) > MAX_LOOPS_IN_LOOPS:
        return f"has loops in loops, more than {MAX_LOOPS_IN_LOOPS} deep"
    return ""


def words(node: nodes.Node) -> list[str]:
    named = [getattr(node, "attr", None), getattr(node, "name", None), getattr(node, "value", None)]
    return [word for word in named if isinstance(word, str)]


def depth(node: nodes.Node) -> int:
    """How many loops stand in one another."""
    below = max((depth(child) for child in node.iter_child_nodes()), default=0)
    return below + isinstance(node, nodes.For)


def by_its_work(made: ImmutableSandboxedEnvironment, text: str, tree: nodes.Template) -> str:
    """What is refused for what a template does with conversations."""
    for messages in conversations():
        given = sum(len(turn["content"]) for turn in messages)
        try:  # compiling computes what is constant
            template = made.from_string(text)
            size = len(template.render(messages=messages, add_generation_prompt=False))
        except SecurityError:
            return "reaches for Python's internals"
        except TemplateError:
            continue  # it may take other turns than these
        except Exception as error:  # noqa: BLE001  a template is a program: it may raise anything
            return f"fails with {type(error).__name__}"
        if size > MAX_GROWTH * given + MAX_FRAME:
            return f"makes {size} characters of {given}"
    dated = any(node.name == "strftime_now" for node in tree.find_all(nodes.Name))
    return DATED if dated else ""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    sys.stdout.write(judge(sys.stdin.buffer.read().decode(errors="replace")))


if __name__ == "__main__":
    main()
