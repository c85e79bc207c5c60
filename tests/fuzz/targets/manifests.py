"""reward.json, and the YAML files over several checkpoints."""

from plaudit import checkpoint, joint_file
from plaudit.checkpoint import CheckpointError
from tests.fuzz.targets.choosing import choosing, chosen
from tests.fuzz.targets.place import folder
from tests.fuzz.targets.saying import sayable

DIGESTS = '{"weights": "a", "config": "b", "tokenizer": "c", "template": "d"}'
MANIFEST = (
    '{"kind": "warm", "base": {"id": "x", "digest": "y"}, "head_init": "z", '
    f'"digests": {DIGESTS}, "max_tokens": 512, "dtype": "float32", "members": [{{"path": "m", '
    '"digest": "n", "coefficient": 0.5}], "calibration": {"kind": "length", "curve": [[1, 0], '
    '[2, 1.5]]}, "probes": [{"messages": [{"role": "user", "content": "é"}], "ids_digest": "i", '
    '"score": 1e-9}], "training": {"lr": [1, {"a": null}]}}'
)
YAML = (
    "members: [a, b]\naggregate: wco\ncoefficient: 0.5\ncentre: a\nmin_members: 1\n",
    "objectives:\n  help: {model: a, weight: 0.7}\n  safe: {model: b, weight: 0.3}\n",
    "a: &a [x, x]\nmembers: [*a, *a]\n",
    "members: [2001-12-14, 0x1F, !!binary aGk=, ~, 1_000.5, .nan]\n",
)


def seeds() -> list[bytes]:
    both = [choosing(read_yaml, READERS, text.encode()) for text in YAML]
    return [choosing(read_manifest, READERS, MANIFEST.encode()), *both]


def one(data: bytes) -> None:
    """What it declares, or a CheckpointError in words that may be printed."""
    read, content = chosen(data, READERS)
    try:
        read(content)
    except CheckpointError as error:
        refusal = str(error)
    else:
        return
    sayable(refusal)


def read_manifest(content: bytes) -> None:
    """One that is read is written so that it is read as the same."""
    directory = folder("manifests")
    (directory / checkpoint.MANIFEST).write_bytes(content)
    manifest, revision = checkpoint.read_manifest(directory)
    assert revision == checkpoint.revision_of(content)
    checkpoint.write(directory, manifest)
    assert checkpoint.read_manifest(directory)[0] == manifest


def read_yaml(content: bytes) -> None:
    path = folder("manifests") / "joint.yaml"
    path.write_bytes(content)
    assert joint_file.read(path).models


READERS = (read_manifest, read_yaml)
