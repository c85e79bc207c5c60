"""Model directories, each poisoned in one way. No weights that anybody would want.

Whatever runs code of a directory makes ``SUNG`` beside it.
"""

import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUNG = "the-canary-sang"
# Reached through classes, as template injections do.
ESCAPE = (
    "{{ ''.__class__.__mro__[1].__subclasses__()[0].__init__.__globals__['os'].mkdir('"
    + SUNG
    + "')"
    " }}"
)
TENSORS = {"score.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}}
CONFIG = {
    "architectures": ["LlamaForSequenceClassification"],
    "model_type": "llama",
    "num_labels": 1,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "rope_parameters": {"rope_theta": 1e4, "rope_type": "default"},
}
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% generation %}{{ m.content | trim }}"
    "{% endgeneration %}{% if not loop.last %}\n{% endif %}{% endfor %}"
)


class Canary:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def pickled(directory: Path) -> bytes:
    return pickle.dumps(Canary(directory.parent / SUNG))


def program(directory: Path) -> str:
    return f"import os\nos.mkdir({str(directory.parent / SUNG)!r})\n"


def safetensors(tensors: Any, data: bytes = bytes(8), length: int | None = None) -> bytes:
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def make(directory: Path) -> Path:
    """A directory with nothing wrong in it."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    (directory / "tokenizer.json").write_text("{}")
    (directory / "tokenizer_config.json").write_text("{}")
    (directory / "chat_template.jinja").write_text(CHATML)
    (directory / "model.safetensors").write_bytes(safetensors(TENSORS))
    return directory


Poison = Callable[[Path], object]


@dataclass(frozen=True)
class Attack:
    """``what`` is said of ``file``."""

    poison: Poison
    file: str
    what: str
    severity: str = "refused"


def write(name: str, content: Callable[[Path], bytes | str] | bytes | str) -> Poison:
    def poison(directory: Path) -> None:
        made = content(directory) if callable(content) else content
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made.encode() if isinstance(made, str) else made)

    return poison


def add(name: str, **keys: Any) -> Poison:
    """More keys in a JSON file."""

    def poison(directory: Path) -> None:
        path = directory / name
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | keys))

    return poison


def only(name: str) -> Poison:
    """A pickle in the place of safetensors."""

    def poison(directory: Path) -> None:
        (directory / "model.safetensors").unlink()
        (directory / name).write_bytes(pickled(directory))

    return poison


def link(name: str, target: str) -> Poison:
    return lambda directory: (directory / name).symlink_to(target)


def both(*poisons: Poison) -> Poison:
    return lambda directory: [poison(directory) for poison in poisons]


def pickles() -> dict[str, Attack]:
    weights = (
        "pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "model.ckpt",
        "flax_model.msgpack", "tf_model.h5",
    )  # fmt: skip
    alone = {f"only {n}": Attack(only(n), n, "can run code, and no others") for n in weights}
    beside = {
        f"{n} beside": Attack(write(n, pickled), n, "never opened", "note")
        for n in (*weights, "training_args.bin", "model.PT")
    }
    return alone | beside


def programs() -> dict[str, Attack]:
    return {
        "a module beside": Attack(
            write("modeling_llama.py", program), "modeling_llama.py", "never imported", "note"
        ),
        "a module that shadows torch": Attack(
            write("torch.py", program), "torch.py", "never imported", "note"
        ),
        "auto_map with its module": Attack(
            both(
                write("evil.py", program),
                add("config.json", auto_map={"AutoModel": "evil.Model", "AutoConfig": "evil.C"}),
            ),
            "config.json", "the key .auto_map names code",
        ),
    }  # fmt: skip


def keys() -> dict[str, Attack]:
    named = {
        "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]},
        "custom_code": True,
        "custom_pipelines": {"reward": {"impl": "evil.Pipeline"}},
        "trust_remote_code": True,
        "_attn_implementation_internal": "evil/kernel",
        "_experts_implementation_internal": "evil/kernel",
        "attn_implementation": "evil/kernel",
        "_attn_implementation": {"text_config": "evil/kernel:forward"},
        "experts_implementation": "evil/kernel",
        "configuration_files": ["config.1.0.0.json"],
        "fast_tokenizer_files": ["tokenizer.1.0.0.json"],
        "transformers_weights": "../other.safetensors",
    }
    top = {
        f"{key} in config": Attack(add("config.json", **{key: value}), "config.json", f".{key} ")
        for key, value in named.items()
    }
    files = ("tokenizer_config.json", "generation_config.json", "processor_config.json",
             "preprocessor_config.json", "config.4.0.0.json")  # fmt: skip
    elsewhere = {
        f"auto_map in {name}": Attack(add(name, auto_map={"X": "evil.X"}), name, ".auto_map ")
        for name in files
    }
    deep = {
        "trust_remote_code of a part": Attack(
            add("config.json", text_config={"quantizer": [{}, {"trust_remote_code": True}]}),
            "config.json", ".text_config.quantizer[1].trust_remote_code ",
        ),
        "auto_map of a part": Attack(
            add("tokenizer_config.json", backend={"auto_map": "evil--repo.Tokenizer"}),
            "tokenizer_config.json", ".backend.auto_map ",
        ),
    }  # fmt: skip
    return top | elsewhere | deep


def configurations() -> dict[str, Attack]:
    def config(what: str, content: bytes | str) -> Attack:
        return Attack(write("config.json", content), "config.json", what)

    return {
        "unknown architecture": Attack(
            add("config.json", architectures=["EvilForSequenceClassification"]),
            "config.json", "architectures is 'EvilForSequenceClassification'",
        ),
        "unknown model type": Attack(
            add("config.json", model_type="../evil"), "config.json", "model_type is '../evil'"
        ),
        "no model type": config("model_type is None", "{}"),
        "config is a list": config("no JSON object", "[]"),
        "config is cut": config("no JSON", '{"model_type": "llama"'),
        "config is deep": config("no JSON", '{"a":' * 200_000),
        "config is UTF-16": config("no JSON", json.dumps(CONFIG).encode("utf-16")),
        "config is large": config("over 10000000 bytes", "{" + " " * 10_000_001 + "}"),
        "no config": Attack(
            lambda d: (d / "config.json").unlink(), "config.json", "is missing"
        ),
        "an adapter": Attack(
            add("adapter_config.json", base_model_name_or_path="/etc"),
            "adapter_config.json", "names another model",
        ),
    }  # fmt: skip


def places() -> dict[str, Attack]:
    return {
        "a link to a file outside": Attack(
            link("secrets.json", "/etc/passwd"), "secrets.json", "leaves the directory"
        ),
        "a link to a folder outside": Attack(link("more", "/etc"), "more", "leaves the directory"),
        "a link upwards": Attack(
            lambda d: (d / "sub").mkdir() or (d / "sub" / "up").symlink_to("../../"),
            "sub/up", "leaves the directory",
        ),
        "weights by a link": Attack(
            lambda d: (d / "model.safetensors").rename(d.parent / f"{d.name}.safetensors")
            and (d / "model.safetensors").symlink_to(f"../{d.name}.safetensors"),
            "model.safetensors", "leaves the directory",
        ),
        "a link to itself": Attack(link("config.1.json", "config.1.json"), "config.1.json",
                                   "a link to nothing"),
        "a pipe": Attack(
            lambda d: (d / "config.json").unlink() or os.mkfifo(d / "config.json"),
            "config.json", "no plain file",
        ),
    }  # fmt: skip


def weights() -> dict[str, Attack]:
    def lie(what: str, content: bytes) -> Attack:
        return Attack(write("model.safetensors", content), "model.safetensors", what)

    def tensors(what: str, size: int = 8, **changes: Any) -> Attack:
        one = TENSORS["score.weight"] | changes
        return lie(what, safetensors({"score.weight": one}, bytes(size)))

    two = TENSORS | {"other": TENSORS["score.weight"]}
    twice = json.dumps(TENSORS)[:-1] + "," + json.dumps(TENSORS)[1:]
    return {
        "header longer than the file": lie("its header has 1000000", safetensors({}, length=10**6)),
        "header of 2^64 bytes": lie("its header has 18446", safetensors({}, length=2**64 - 1)),
        "header of 200 MB": Attack(sparse, "model.safetensors", "at most 100000000"),
        "no header": lie("its header has", b"\x01"),
        "header no JSON": lie("no", safetensors(b"\x80\x04.")),
        "header a list": lie("not one of tensors", safetensors(b"[]")),
        "header deep": lie("not one of tensors", safetensors(b'{"a":' * 200_000)),
        "a tensor twice": lie("not one of tensors", safetensors(twice.encode())),
        "tensors overlap": lie("the one before it ends", safetensors(two, bytes(16))),
        "a tensor out of range": tensors("another size", data_offsets=[0, 80]),
        "a large tensor out of range": tensors(
            "the file has 8", data_offsets=[0, 80], shape=[20, 1]
        ),
        "a tensor backwards": tensors("the one before it ends", data_offsets=[8, 0]),
        "negative offsets": tensors("not one of tensors", data_offsets=[-8, 0]),
        "negative shape": tensors("not one of tensors", shape=[-1, -2]),
        "shape of 2^62": tensors("another size", shape=[2**62, 4]),
        "unknown dtype": tensors("unknown dtype", dtype="PICKLE"),
        "bytes after the last tensor": tensors("the file has 9000", size=9000),
        "index names a file outside": Attack(
            add("model.safetensors.index.json", weight_map={"a": "../../etc/passwd"}),
            "model.safetensors.index.json", "'../../etc/passwd'",
        ),
        "index names a pickle": Attack(
            both(
                write("x.bin", pickled),
                add("model.safetensors.index.json", weight_map={"a": "x.bin"}),
            ),
            "model.safetensors.index.json", "'x.bin'",
        ),
        "index of nothing": Attack(
            add("model.safetensors.index.json", weight_map=5),
            "model.safetensors.index.json", "no weight_map",
        ),
    }  # fmt: skip


def sparse(directory: Path) -> None:
    with (directory / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 200_000_000))
        file.truncate(300_000_000)


def templates() -> dict[str, Attack]:
    def template(what: str, text: str, severity: str = "refused") -> Attack:
        return Attack(
            write("chat_template.jinja", text), "chat_template.jinja", what, severity
        )  # fmt: skip

    internals = "reaches for Python's internals"
    loops = "{% for a in range(99999) %}" * 4 + "x" + "{% endfor %}" * 4
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


ATTACKS: dict[str, Attack] = (
    pickles() | programs() | keys() | configurations() | places() | weights() | templates()
)


def build(root: Path) -> dict[str, Path]:
    """A directory for each attack, by its name."""
    made = {}
    for number, (name, attack) in enumerate(ATTACKS.items()):
        made[name] = make(root / f"model-{number:03}")
        attack.poison(made[name])
    return made
