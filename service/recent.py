"""What was used last, for as many keys as there is room for."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """The entries used last; those used longest ago leave beyond ``limit``."""

    def __init__(self, limit: int):
        self._limit = limit
        self._entries: OrderedDict[bytes, V] = OrderedDict()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, V]:
        found = {key: self._entries[key] for key in keys if key in self._entries}
        for key in found:
            self._entries.move_to_end(key)
        return found

    def put(self, entries: Mapping[bytes, V]) -> None:
        self._entries.update(entries)
        while len(self._entries) > self._limit:
            self._entries.popitem(last=False)
