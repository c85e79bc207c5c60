"""What a server says of itself at /metrics."""

import re

import httpx2


async def value(client: httpx2.AsyncClient, series: str) -> float:
    """Of one series without labels."""
    return value_in((await client.get("/metrics")).text, series)


def value_in(text: str, series: str) -> float:
    found = re.search(rf"^{series} (\S+)$", text, re.MULTILINE)
    assert found, f"{series} in {text}"
    return float(found[1])
