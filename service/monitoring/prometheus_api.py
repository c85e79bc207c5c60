"""Ranges of series from a Prometheus, through its HTTP API.

https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx2

TIMEOUT_SECONDS = 30.0


class PrometheusError(ValueError):
    """A Prometheus that does not answer, or not as asked; the text says what mends it."""


@dataclass(frozen=True)
class Range:
    """Seconds since the epoch, both ends included, and the seconds from point to point."""

    start: float
    end: float
    step: float

    @property
    def rate_interval(self) -> str:
        """What Grafana puts for ``$__rate_interval`` where a scrape comes every 15 seconds: four
        scrapes, or a step and one more, whichever is longer."""
        return f"{max(self.step + 15, 60):.0f}s"


@dataclass(frozen=True)
class Series:
    """Labels and points; a gap is a time that is not there."""

    labels: Mapping[str, str]
    times: list[float]
    values: list[float]


class Prometheus:
    """The server at ``url``, which may have a path in front of ``/api``."""

    def __init__(self, url: str):
        self._url = url.rstrip("/")
        self._http = httpx2.Client(timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def range(self, expression: str, over: Range) -> list[Series]:
        """What ``expression`` was over a range. PrometheusError where it cannot be said."""
        data = {"query": expression, "start": over.start, "end": over.end, "step": over.step}
        found = self._ask("POST", "/api/v1/query_range", data=data)
        if found.get("status") != "success":
            raise PrometheusError(f"{self._url}: {found.get('error')} in {expression!r}")
        return [series(one) for one in found["data"]["result"]]

    def label_values(self, name: str, over: Range) -> list[str]:
        """The values that a label had in a range, in order; none for an unknown label."""
        asked = {"start": over.start, "end": over.end}
        found = self._ask("GET", f"/api/v1/label/{name}/values", params=asked)
        return sorted(found.get("data", []))

    def _ask(self, method: str, path: str, **given: Any) -> dict[str, Any]:
        """A JSON object. PrometheusError where there is none."""
        try:
            answer = self._http.request(method, f"{self._url}{path}", **given)
            found = answer.json()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise PrometheusError(
                f"no Prometheus answers at {self._url} ({type(error).__name__}): "
                "name it with --prometheus http://HOST:9090"
            ) from None
        except ValueError:
            raise PrometheusError(self._none_there(answer.status_code, path)) from None
        if not isinstance(found, dict) or "status" not in found or "title" in found:
            raise PrometheusError(self._none_there(answer.status_code, path))
        return found

    def _none_there(self, status: int, path: str) -> str:
        return (
            f"{self._url}: no Prometheus there ({status} at {path}): "
            "name it with --prometheus http://HOST:9090"
        )


def series(found: Mapping[str, object]) -> Series:
    labels, points = found["metric"], found["values"]
    assert isinstance(labels, dict)
    assert isinstance(points, list)
    return Series(labels, [float(at) for at, _ in points], [float(value) for _, value in points])
