"""JSON lines for people and collectors. No text of a prompt or response is ever passed here."""

import json
import logging
import os
import sys
import time
from typing import Any

log = logging.getLogger("plaudit")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; whatever a caller chose is escaped by the encoder."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        entry |= getattr(record, "fields", {})
        if record.exc_info is not None:
            # Where, not what: an exception's message may quote the input.
            entry["exception"] = _frames(record)
        return json.dumps(entry)


def _frames(record: logging.LogRecord) -> list[str]:
    assert record.exc_info is not None
    kind, _, trace = record.exc_info
    frames = [kind.__name__ if kind else "?"]
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames


class Lines(logging.StreamHandler):  # type: ignore[type-arg]  # of what sys.stderr is
    """A line that cannot be written is counted and dropped: where logs go may be full or gone, and
    scores are still wanted."""

    lost = 0

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)
        Lines.lost += 1


def say(text: str) -> None:
    """To people, on stderr; a start does not fail because they cannot be told of it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        Lines.lost += 1


def close() -> None:
    """What stderr still holds is written, or thrown away: Python would end with status 120."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def configure(level: str) -> None:
    """Send every logger, uvicorn's too, through one JSON handler on stderr."""
    handler = Lines(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    for name in ("httpx2", "urllib3", "transformers"):
        logging.getLogger(name).setLevel(logging.WARNING)


def event(name: str, **fields: Any) -> None:
    log.info(name, extra={"fields": fields})
