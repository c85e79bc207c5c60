"""The series of a counter, found once."""

from prometheus_client import Counter


class Children(dict[tuple[str, ...], Counter]):
    """By the values of the labels. Finding a series takes three times as long as adding to it, and
    every request does it several times."""

    def __init__(self, counter: Counter):
        self._counter = counter

    def __missing__(self, labels: tuple[str, ...]) -> Counter:
        child = self[labels] = self._counter.labels(*labels)
        return child

    def drop(self, labels: tuple[str, ...]) -> None:
        """The series is no longer shown. One that is counted in again begins at zero."""
        del self[labels]
        self._counter.remove(*labels)
