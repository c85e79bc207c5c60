"""What a server's /metrics says at one moment."""

import time
from dataclasses import dataclass, field

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from service.redaction import without_password

Labels = tuple[tuple[str, str], ...]
Series = dict[Labels, float]
# By name of a sample (plaudit_http_requests_total) and its labels.
Samples = dict[str, Series]
SCRAPE_SECONDS = 5.0
# Of a key that reads metrics, where the servers want one.
VARIABLE = "PLAUDIT_CLIENT_API_KEY"


class TopError(ValueError):
    """A server that cannot be named or read; the text ends with what mends it."""


@dataclass(frozen=True)
class Scrape:
    """``at`` in seconds of a monotonic clock; counters and histograms only ever grow, until their
    process starts anew."""

    at: float
    counters: Samples = field(repr=False)
    gauges: Samples = field(repr=False)


@dataclass(frozen=True)
class Down:
    """No figures: why."""

    why: str


def address(text: str) -> str:
    """The URL of the metrics of a server: ``host:8000`` and ``http://host:8000`` will do."""
    given = text if "://" in text else f"http://{text}"
    try:
        url = httpx2.URL(given)
    except httpx2.InvalidURL:
        raise TopError("a server is named as http://HOST:PORT") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise TopError(f"{without_password(given)} is no server: http://HOST:PORT is one")
    return str(url if url.path not in ("", "/") else url.copy_with(path="/metrics"))


async def scrape(http: httpx2.AsyncClient, url: str) -> Scrape | Down:
    try:
        response = await http.get(url, timeout=SCRAPE_SECONDS)
    except httpx2.RequestError as error:
        return Down(f"down: {type(error).__name__}")
    if response.status_code in (401, 403):
        says = f"export {VARIABLE}=…, a key with the scope metrics"
        return Down(f"HTTP {response.status_code}: {says}")
    if response.status_code != 200:
        return Down(f"no metrics there (HTTP {response.status_code}): see --admin-port")
    try:
        return parse(response.text, time.monotonic())
    except ValueError:
        return Down("no metrics there: another program answers")


def parse(text: str, at: float) -> Scrape:
    """ValueError where the text is not in Prometheus' format."""
    counters: Samples = {}
    gauges: Samples = {}
    for family in text_string_to_metric_families(text):
        grows = family.type in ("counter", "histogram", "summary")
        for sample in family.samples:
            into = (counters if grows else gauges).setdefault(sample.name, {})
            into[tuple(sorted(sample.labels.items()))] = sample.value
    return Scrape(at, counters, gauges)
