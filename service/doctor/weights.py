"""What the headers of a checkpoint's weights say; no tensor is read."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from plaudit.checkpoint import weight_files
from plaudit.scan.weights import Tensor, header
from service.doctor.finding import Finding, ok


def check(name: str, directory: Path) -> tuple[Finding, int]:
    """How many parameters there are, and of which kinds. The headers have passed the scan."""
    tensors = [one for path in weight_files(directory) for one in header(path)[1].values()]
    parameters = sum(math.prod(one.shape) for one in tensors)
    return ok(
        f"{name} weights", f"{millions(parameters)} parameters, {dtypes(tensors)}"
    ), parameters


def dtypes(tensors: Sequence[Tensor]) -> str:
    """By the parameters that they have, most first."""
    counts: Counter[str] = Counter()
    for one in tensors:
        counts[one.dtype] += math.prod(one.shape)
    return ", ".join(name for name, _ in counts.most_common())


def millions(count: int) -> str:
    if count >= 1e9:
        return f"{count / 1e9:.2f} billion"
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"
