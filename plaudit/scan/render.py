"""A program of its own: renders the chat template that it is given, under limits.

It is run as ``python -I render.py`` and imports nothing of Plaudit. It reads a template and the
special tokens of its tokenizer, as JSON, and writes what is wrong. What a template can see here is
what Transformers shows it: one that tells the two apart could behave only while it is looked at.
"""

import json
import resource
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes, pass_eval_context
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


# Those that Transformers knows by itself, as a tokenizer that has them all.
TOKENS = {
    "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "[SEP]",
    "pad_token": "<pad>", "cls_token": "[CLS]", "mask_token": "[MASK]",
}  # fmt: skip


class Generation(Extension):
    """Transformers' own tag around what an assistant says: a block with names of its own."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own attribute

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    @pass_eval_context
    def _said(self, _: nodes.EvalContext, caller: Callable[[], str]) -> str:
        return caller()


def environment() -> ImmutableSandboxedEnvironment:
    """As Transformers makes it for chat templates."""
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    found.filters["tojson"] = tojson
    found.globals["raise_exception"] = refuse_turns
    found.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
    return found


def tojson(
    x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
    sort_keys: bool = False,
) -> str:  # fmt: skip
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def refuse_turns(message: str) -> None:
    raise TemplateError(message)


def conversations() -> Iterator[list[dict[str, str]]]:
    def turns(*contents: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]

    yield turns("Hi", "Hello")
    yield [{"role": "system", "content": "Be brief."}, *turns("Hi", "Hello")]
    yield turns(*(["So?", "So."] * 32))
    yield turns(LONG, LONG)


def judge(text: str, tokens: dict[str, str]) -> str:
    """What is wrong with a template, in words that follow "the template"; empty if nothing is."""
    made = environment()
    try:
        tree = made.parse(text)
    except (TemplateSyntaxError, RecursionError):
        return "is no template of Jinja"
    wrong = by_its_words(tree)
    return wrong or by_its_work(made, text, tokens) or by_the_date(tree)


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


def by_its_work(made: ImmutableSandboxedEnvironment, text: str, tokens: dict[str, str]) -> str:
    """What is refused for what a template does with conversations: with the special tokens that are
    known, and with all, since the class of a tokenizer can bring more."""
    refusal, rendered = "", False
    for known in (tokens, TOKENS | tokens):
        for messages in conversations():
            given = sum(len(turn["content"]) for turn in messages)
            try:
                size = len(render(made, text, messages, known))
            except SecurityError:
                return "reaches for Python's internals"
            except TemplateError as error:  # it may take other turns than these
                refusal = f"{type(error).__name__}: {str(error)[:100]!r}"
                continue
            except Exception as error:  # noqa: BLE001  a template may raise anything
                return f"fails with {type(error).__name__}"
            rendered = True
            if size > MAX_GROWTH * given + MAX_FRAME:
                return f"makes {size} characters of {given}"
    return "" if rendered else f"takes no conversation at all ({refusal})"


def render(
    made: ImmutableSandboxedEnvironment,
    text: str,
    messages: list[dict[str, str]],
    tokens: dict[str, str],
) -> str:
    """As ``apply_chat_template`` calls it. Compiling is work too: it computes what is constant."""
    template = made.from_string(text)
    given = {"tools": None, "documents": None, "add_generation_prompt": False}
    return template.render(**tokens | given | {"messages": messages})


def by_the_date(tree: nodes.Template) -> str:
    dated = any(node.name == "strftime_now" for node in tree.find_all(nodes.Name))
    return DATED if dated else ""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    template, tokens = json.load(sys.stdin)
    sys.stdout.write(judge(template, tokens))


if __name__ == "__main__":
    main()
