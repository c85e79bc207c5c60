"""Model directories, each poisoned in one way."""

import json
import os
import struct
from pathlib import Path
from typing import Any

from poison import (
    CONFIG,
    TENSORS,
    Attack,
    add,
    both,
    link,
    make,
    only,
    pickled,
    program,
    safetensors,
    write,
)
from poisoned_texts import templates, tokenizers


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
        "tokenizer_file": "/etc/passwd",
        "vocab_file": "../vocab.json",
        "merges_file": "../merges.txt",
        "quantization_config": {"quant_method": "fbgemm_fp8"},
        "dtype": "load",
        "torch_dtype": {"text_config": "hub"},
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
    special = {
        f"{key} among the special tokens": Attack(
            add("special_tokens_map.json", **{key: value}), "special_tokens_map.json", f".{key} "
        )
        for key, value in {
            "tokenizer_file": "/etc/passwd", "name_or_path": "/etc", "backend": "custom",
            "eos_token": 5,
        }.items()
    }  # fmt: skip
    return top | elsewhere | deep | special


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


def sizes() -> dict[str, Attack]:
    more = {
        "num_hidden_layers": 10**8, "n_layer": 10**8, "vocab_size": 10**12, "hidden_size": 10**6,
        "intermediate_size": 10**9, "num_attention_heads": 10**9, "head_dim": 10**9,
        "num_local_experts": 10**9, "max_position_embeddings": 10**13,
    }  # fmt: skip
    alone = {
        f"{key} beyond the weights": Attack(
            add("config.json", **{key: value}), "config.json", f"{key} is {value}"
        )
        for key, value in more.items()
    }
    empty = {"model.embed_tokens.weight": {"dtype": "F32", "shape": [10**12, 0],
                                           "data_offsets": [0, 0]}}  # fmt: skip
    long = {"model.norm.weight": {"dtype": "F32", "shape": [5000], "data_offsets": [0, 20_000]}}
    wide = {"hidden_size": 5000, "intermediate_size": 5000, "num_hidden_layers": 1}
    return alone | {
        "a vocabulary of an empty tensor": Attack(
            both(
                add("config.json", vocab_size=10**12),
                write("model.safetensors", safetensors(TENSORS | empty)),
            ),
            "config.json", "vocab_size is 1000000000000",
        ),
        "matrices of a vector": Attack(
            both(
                add("config.json", **wide),
                write("model.safetensors", safetensors(long, bytes(20_000))),
            ),
            "config.json", "its layers would have 25000000 weights",
        ),
        "positions of a model that learns them": Attack(
            add("config.json", model_type="gpt2", n_positions=10**6), "config.json",
            "n_positions is 1000000",
        ),
        "a size that is not whole": Attack(
            add("config.json", vocab_size=1e300), "config.json", "vocab_size is inf"
        ),
    }  # fmt: skip


def sparse(directory: Path) -> None:
    with (directory / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 200_000_000))
        file.truncate(300_000_000)


ATTACKS: dict[str, Attack] = (
    pickles()
    | programs()
    | keys()
    | configurations()
    | places()
    | weights()
    | sizes()
    | templates()
    | tokenizers()
)


def build(root: Path) -> dict[str, Path]:
    """A directory for each attack, by its name."""
    made = {}
    for number, (name, attack) in enumerate(ATTACKS.items()):
        made[name] = make(root / f"model-{number:03}")
        attack.poison(made[name])
    return made
