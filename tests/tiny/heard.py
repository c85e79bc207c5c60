"""What is printed while a test waits for it, by any thread.

``capsys.readouterr()`` reads and then empties: what is printed in between is gone.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


class Heard(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self._printed = threading.Condition()

    def write(self, text: str) -> int:
        with self._printed:
            count = super().write(text)
            self._printed.notify_all()
        return count

    def wait_for(self, words: str) -> None:
        with self._printed:
            assert self._printed.wait_for(lambda: words in self.getvalue(), 120), self.getvalue()


@contextmanager
def heard() -> Iterator[Heard]:
    with redirect_stdout(Heard()) as found:
        yield found
