"""Bodies as real clients send them, kept for the tests of other servers' wire formats."""

import json
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "service" / "compat" / "golden"


def bodies() -> list[tuple[str, bytes]]:
    """The path each was sent to, and its bytes."""
    files = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))]
    return [(one["path"].partition("?")[0], json.dumps(one["body"]).encode()) for one in files]
