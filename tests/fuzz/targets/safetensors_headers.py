"""Headers of safetensors, as the scan reads them.

The oracle is the library itself: what the scan takes, it must read, as the same tensors.
"""

from safetensors import deserialize

from plaudit.scan import weights
from tests.fuzz.targets.place import folder
from tests.fuzz.targets.saying import sayable
from tests.tiny.poison import TENSORS, safetensors

TWO = {
    "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
    "b.weight": {"dtype": "I64", "shape": [], "data_offsets": [12, 20]},
    "__metadata__": {"format": "pt"},
}
EMPTY = {"a": {"dtype": "F32", "shape": [0, 7], "data_offsets": [0, 0]}}
# Its product takes for ever, and a tensor of so many dimensions is none.
DEEP = {"a": {"dtype": "F32", "shape": [2**62 - 1] * 60_000, "data_offsets": [0, 8]}}


def seeds() -> list[bytes]:
    return [
        safetensors(TENSORS), safetensors(TWO, bytes(20)), safetensors(EMPTY, b""),
        safetensors({}, b""), safetensors(DEEP), safetensors(TENSORS, length=2**63),
    ]  # fmt: skip


def one(data: bytes) -> None:
    """Refused in one line, or read by the library as the same tensors."""
    path = folder("weights") / "model.safetensors"
    path.write_bytes(data)
    found = weights.check_file(path)
    for finding in found:
        sayable(finding.what)
    if found:
        return
    declared = weights.header(path)[1]
    read = {name: tensor for name, tensor in deserialize(data)}
    assert read.keys() == declared.keys()
    for name, tensor in read.items():
        assert tensor["shape"] == declared[name].shape
        begin, end = declared[name].data_offsets
        assert len(tensor["data"]) == end - begin
