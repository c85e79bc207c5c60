"""Model directories whose templates or tokenizers are poisoned: programs that work on text."""

import json
from typing import Any

from poison import CHATML, ESCAPE, TOKENIZER, Attack, add, both, write

TEMPLATE = "chat_template.jinja"


def templates() -> dict[str, Attack]:
    def template(what: str, text: str, severity: str = "refused") -> Attack:
        return Attack(
            write("chat_template.jinja", text), "chat_template.jinja", what, severity
        )  # fmt: skip

    internals = "reaches for Python's internals"
    loops = "{% for a in range(99999) %}" * 4 + "x" + "{% endfor %}" * 4
    large = "{{ 'x'|center(10**7) }}"
    attribute = "{{ messages|map(attribute='content.__class__.__init__')|list }}"
    spelled = (
        "{{ ''|attr('_' ~ '_class_' ~ '_')|string }}{{ (''|attr('_' ~ '_class_' ~ '_')).mro() }}"
    )
    return {
        "template escapes": template(internals, ESCAPE),
        "template escapes for one word only": template(
            internals, "{% if messages[0].content == 'now' %}" + ESCAPE + "{% endif %}x"
        ),
        "template escapes by attr": template(internals, "{{ ''|attr('__class__') }}"),
        "template escapes by a spelled name": template(internals, spelled),
        "template escapes by format": template("", attribute),
        "template escapes through cycler": template(
            internals, "{{ cycler.__init__.__globals__.os.popen('id').read() }}"
        ),
        "template loops for ever": template("CPU time", loops),
        "template loops too deep": template("loops in loops", loops + "{% for a in b %}" * 6
                                            + "{% endfor %}" * 6),
        "template doubles": template(
            "MemoryError", "{% set n = namespace(x='ha') %}{% for i in range(60) %}"
            "{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
        ),
        "template multiplies": template("MemoryError", "{{ 'ha' * 10**12 }}"),
        "template pads": template("characters of", "{{ 'x'|center(10**7) }}"),
        "template recurses": template(
            "RecursionError", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"
        ),
        "template powers": template("CPU time", "{{ 9**(9**9) % 7 }}"),
        "template reads a file": template("reads other templates", "{% include '/etc/passwd' %}"),
        "template imports": template("reads other templates", "{% import 'os' as os %}"),
        "template is large": template("over 200000 bytes", "x" * 200_001),
        "template is broken": template("no template of Jinja", "{% for %}"),
        "template grows where tools are defined": template(
            "characters of", "{% if tools is defined %}" + large + "{% endif %}" + CHATML
        ),
        "template grows where documents are none": template(
            "characters of", "{% if documents is none %}" + large + "{% endif %}" + CHATML
        ),
        "template grows after the token of the beginning": template(
            "characters of", "{{ bos_token + 'x' }}" + large + CHATML
        ),
        "template grows for the token that there is": Attack(
            both(
                add("tokenizer_config.json", eos_token={"content": "<|im_end|>"}),
                write(TEMPLATE, "{% if eos_token == '<|im_end|>' %}" + large + "{% endif %}x"),
            ),
            TEMPLATE, "characters of",
        ),
        "template grows for a token of its own": Attack(
            both(
                add("special_tokens_map.json", turn_token="<turn>"),
                write(TEMPLATE, "{% if turn_token is defined %}" + large + "{% endif %}x"),
            ),
            TEMPLATE, "characters of",
        ),
        "template refuses unless there are tokens": template(
            "characters of", "{% if not eos_token %}{{ raise_exception('no') }}{% endif %}" + large
        ),
        "template grows in this century": template(
            "characters of", "{% if strftime_now('%C %Y') == '20 ' ~ strftime_now('%Y') %}" + large
            + "{% endif %}x",
        ),
        "template grows by what a block leaves alone": template(
            "characters of", "{% set s = 1 %}{% generation %}{% set s = 0 %}{% endgeneration %}"
            "{% if s %}" + large + "{% endif %}x",
        ),
        "template takes no conversation": template(
            "takes no conversation at all (TemplateError: 'never')",
            "{{ raise_exception('never') }}",
        ),
        "template has half a character": Attack(
            add("tokenizer_config.json", chat_template="\ud800" + CHATML),
            "tokenizer_config.json", "no Unicode",
        ),
        "template is no UTF-8": Attack(write(TEMPLATE, b"\xff" + CHATML.encode()), TEMPLATE,
                                       "no Unicode"),
        "template among the special tokens": Attack(
            add("special_tokens_map.json", chat_template=loops),
            "special_tokens_map.json", ".chat_template is no special token",
        ),
        "template reads the date": template("reads the date", "{{ strftime_now('%Y') }}", "note"),
        "template in the tokenizer": Attack(
            add("tokenizer_config.json", chat_template=ESCAPE), "tokenizer_config.json", internals
        ),
        "one of several templates": Attack(
            add("tokenizer_config.json", chat_template=[
                {"name": "default", "template": CHATML}, {"name": "tools", "template": ESCAPE},
            ]),
            "tokenizer_config.json", internals,
        ),
        "an additional template": Attack(
            write("additional_chat_templates/tools.jinja", ESCAPE),
            "additional_chat_templates/tools.jinja", internals,
        ),
        "template is a number": Attack(
            add("tokenizer_config.json", chat_template=[5]), "tokenizer_config.json", "no text"
        ),
    }  # fmt: skip


def tokenizers() -> dict[str, Attack]:
    def tokenizer(what: str, **parts: Any) -> Attack:
        return Attack(
            write("tokenizer.json", json.dumps(TOKENIZER | parts)), "tokenizer.json", what
        )

    def split(regex: str) -> dict[str, Any]:
        return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated",
                "invert": False}  # fmt: skip

    def replace(what: str, times: int) -> dict[str, Any]:
        return {"type": "Replace", "pattern": {"String": what}, "content": what * times}

    def bomb(*replacements: dict[str, Any]) -> dict[str, Any]:
        return {"type": "Sequence", "normalizers": list(replacements)}

    return {
        "tokenizer panics": tokenizer("PanicException", pre_tokenizer=split("(a|a)*$")),
        "tokenizer explodes": tokenizer("is not done", normalizer=bomb(*[replace("a", 1000)] * 4)),
        "tokenizer makes many": tokenizer("tokens of", normalizer=replace("a", 500)),
        "tokenizer is none": Attack(
            write("tokenizer.json", "{}"), "tokenizer.json", "cannot be read"
        ),
    }
