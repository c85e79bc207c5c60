"""S16: whatever a caller writes, a line of the log is one JSON object and has none of it."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from service.logs import JsonFormatter

FORGED = 'x\r\n{"event": "forged"}\x00\x1b[2J\u2028\u2029'


async def test_nothing_that_a_caller_writes_forges_a_line(
    serve: Callable[..., Any], tiny_checkpoint: Path
) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    log = logging.getLogger("plaudit")
    level = log.level
    log.addHandler(handler)
    log.setLevel("DEBUG")
    try:
        async with serve(models=[tiny_checkpoint]) as client:
            path = f"/{quote(FORGED)}"
            answers = [
                await client.get(path),
                await client.get("/score", params={"q": FORGED}),
                await client.post(f"/k/{quote(FORGED)}/get_reward", json={}),
                await client.post("/score", json={"items": [], "model": FORGED}),
                await client.post("/score", json={"items": [{"text": FORGED}]}),
                await client.post("/score", json={FORGED: FORGED}),
                await client.post("/score", json={"items": [], "revision": FORGED}),
                await client.get("/livez", headers={"X-Request-Id": "a\x1b[2J b"}),
                await client.get("/models", headers={"User-Agent": 'x"}\t{"event": "forged"}'}),
            ]
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    lines = written.getvalue().split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(answers) - 1  # of probes there is none
    for line in lines:
        assert line.isprintable()
        assert json.loads(line)["event"] == "request"
        assert "forged" not in line
