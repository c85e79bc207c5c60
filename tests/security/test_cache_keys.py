"""S18: whatever changes a score changes the key under which it is kept."""

import shutil
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plaudit import checkpoint
from plaudit.calibration import Calibration
from plaudit.checkpoint import Manifest, Stats
from plaudit.conversation import Encoder
from service.cache import key_of
from service.engines.torch_engine import TorchEngine
from service.metrics import Metrics
from service.settings import Settings

IDS = [5, 6, 7]


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint: Path) -> Encoder:
    return Encoder.load(tiny_checkpoint, 512)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1), st.text(min_size=1))
@example("é", "e\u0301")
@example("\u212b", "Å")
@example("ab", "a b")
@example("a", "a\u200b")
def test_two_texts_have_one_key_only_if_they_are_one_text(
    encoder: Encoder, one: str, other: str
) -> None:
    """Bytes are this tokenizer's tokens, so that no two texts of it are one."""
    keys = [key_of("sha256:r", "torch", encoder.text(text)) for text in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
         "chat_template.jinja", "special_tokens_map.json", "added_tokens.json")  # fmt: skip


def test_any_file_that_changes_is_another_key(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """One space at its end, or the file itself where there was none."""
    found = set()
    for name in ("nothing", *FILES):
        directory = shutil.copytree(tiny_checkpoint, tmp_path / name / "model")
        (directory / checkpoint.MANIFEST).unlink()
        if name != "nothing":
            with (directory / name).open("ab") as file:
                file.write(b" ")
        found.add(key_of(checkpoint.describe(directory, 512)[1], "torch", IDS))
    assert len(found) == 1 + len(FILES)


# Another value for each field of a manifest.
OTHERS: dict[str, Any] = {
    "format": 9, "kind": "plain", "base": checkpoint.Base("other", "sha256:b"), "head_init": "x",
    "members": (checkpoint.Member("a", "b", 1.0),),
    "digests": checkpoint.Digests("w", "c", "t", "p"), "max_tokens": 77, "truncation_side": "right",
    "padding_side": "left", "dtype": "bfloat16", "stats": Stats("r", "d", 2, 0.0, 1.0, (0.0,)),
    "calibration": Calibration("standardise", mean=9.0), "probes": (), "training": {"lr": 1},
}  # fmt: skip


def test_any_field_of_the_manifest_is_another_key(tiny_checkpoint: Path) -> None:
    manifest, revision = checkpoint.read(tiny_checkpoint)
    assert OTHERS.keys() == set(Manifest.__struct_fields__)
    found = {key_of(revision, "torch", IDS)}
    for field, value in OTHERS.items():
        changed = msgspec.structs.replace(manifest, **{field: value})
        assert changed != manifest, field
        found.add(key_of(checkpoint.revision_of(msgspec.json.encode(changed)), "torch", IDS))
    assert len(found) == 1 + len(OTHERS)


def test_each_way_to_compute_is_another_key() -> None:
    ways = [
        TorchEngine(
            Settings(dtype=dtype, deterministic=exact, device="cpu", _cli_parse_args=False),
            Metrics(),
        ).numerics
        for dtype, exact in product(("float32", "bfloat16"), (False, True))
    ]
    keys = sorted(key_of("sha256:r", way, IDS) for way in ways)
    assert all(one != other for one, other in pairwise(keys))
