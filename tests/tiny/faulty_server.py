"""``plaudit serve`` on a device that fails: ``python faulty_server.py MODEL --port …``.

A forward with the text ``RAISES`` raises, the first one with ``STUMBLES`` does, one with ``HANGS``
never ends, and one of more tokens than ``FORWARD_TOKENS`` of the environment finds no memory. With
``LOADS_FOREVER`` in the environment it says so once it loads. Everything else is the server as it
is.
"""

import os
import sys
import threading
from collections.abc import Sequence

import torch

from plaudit.joint_model import Asked, Computed, JointModel
from service import serve

RAISES, STUMBLES, HANGS = "<<raises>>", "<<stumbles>>", "<<hangs>>"
LOADS = "it loads for ever"
FIRST_BYTE = 3  # the tokens of the tiny models are bytes, after three specials


def marks(text: str) -> tuple[int, ...]:
    """The tokens of ASCII text; the alphabet of bytes begins with what is printable."""
    return tuple(FIRST_BYTE + ord(one) - ord("!") for one in text)


def has(ids: Sequence[int], mark: tuple[int, ...]) -> bool:
    return any(tuple(ids[i : i + len(mark)]) == mark for i in range(len(ids) - len(mark) + 1))


def main(argv: list[str]) -> int:
    compute, verify = JointModel.compute, JointModel.verify_probes
    most, started = int(os.environ.pop("FORWARD_TOKENS", 2**31)), threading.Event()
    loads_forever, stumbled = bool(os.environ.pop("LOADS_FOREVER", "")), threading.Event()

    def verifying(joint: JointModel, dtype: str) -> None:
        if loads_forever:
            print(LOADS, file=sys.stderr, flush=True)
            threading.Event().wait()
        verify(joint, dtype)
        started.set()  # it was well until here

    def failing(joint: JointModel, asked: Sequence[Asked], remember: bool = True) -> Computed:
        if any(has(one.ids, marks(RAISES)) for one in asked):
            raise RuntimeError("an illegal instruction")
        if not stumbled.is_set() and any(has(one.ids, marks(STUMBLES)) for one in asked):
            stumbled.set()
            raise RuntimeError("a cosmic ray")
        if any(has(one.ids, marks(HANGS)) for one in asked):
            threading.Event().wait()
        if started.is_set() and sum(len(one.ids) for one in asked) > most:
            raise torch.OutOfMemoryError("Tried to allocate more than there is")
        return compute(joint, asked, remember)

    JointModel.compute = failing  # type: ignore[method-assign]
    JointModel.verify_probes = verifying  # type: ignore[method-assign]
    return serve.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
