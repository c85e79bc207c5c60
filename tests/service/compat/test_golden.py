"""Bodies as the peers' clients send them, answered over HTTP with the numbers of /score.

A file of ``golden/`` has the path, the body, the same items in our own words, and the answer. In an
answer ``"$reward 0"`` stands for the number that the server's own routes give to item 0, and
``"$best_score 0"`` for the highest; ``"classify-*"`` for whatever begins so.
"""

import base64
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import httpx2
import jsonschema
import numpy as np
import pytest

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def own_numbers(url: str, golden: dict[str, Any]) -> dict[str, list[Any]]:
    """What /score, or of an ensemble /ensemble_score, says of the same items."""
    route = "ensemble_score" if golden["served"] == "ensemble" else "score"
    answer = httpx2.post(f"{url}/{route}", json={"items": golden["items"]}, timeout=30).json()
    numbers = {"reward": answer["rewards"]}
    for name in ("score", "tokens", "truncated"):
        numbers[name] = [item.get(name) for item in answer["items"]]
    numbers["logistic"] = [1 / (1 + math.exp(-reward)) for reward in answer["rewards"]]
    for name in ("mean", "variance"):
        numbers[name] = answer.get(name, [])
    numbers["total_tokens"] = [sum(numbers["tokens"])]
    numbers |= {"now": [time.time()], "revision": [answer["revision"]]}
    return numbers | of_scores(numbers["score"], golden["items"])


def of_scores(found: list[float | None], items: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What formats make of raw scores; an ensemble has none."""
    scores = [score for score in found if score is not None]
    best = sorted(range(len(scores)), key=lambda i: -scores[i])
    return {
        "score_logistic": [1 / (1 + math.exp(-score)) for score in scores],
        "base64": [base64.b64encode(np.float32([score])).decode() for score in scores],
        "best": best,
        "best_score": [scores[i] for i in best],
        "best_logistic": [1 / (1 + math.exp(-scores[i])) for i in best],
        "best_response": [items[i].get("response") for i in best],
    }


class Beginning(str):
    """Equal to every string that begins so."""

    __slots__ = ()
    __hash__ = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(self)


def filled(template: Any, numbers: dict[str, list[Any]]) -> Any:
    """The template with numbers at the places of ``"$name index"``."""
    if isinstance(template, dict):
        return {name: filled(value, numbers) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, numbers) for value in template]
    if isinstance(template, str) and template.startswith("$"):
        name, index = template[1:].split()
        value = numbers[name][int(index)]
        return value if isinstance(value, str) else pytest.approx(value, rel=1e-6)
    if isinstance(template, str) and template.endswith("*"):
        return Beginning(template[:-1])
    return template


async def test_the_published_schema_describes_their_bodies(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        schema = (await client.get("/openapi.json")).json()
    described = 0
    for path in GOLDEN:
        golden = json.loads(path.read_text())
        route = golden["path"].partition("?")[0]
        route = re.sub("/models/[^/]+/", "/models/{model}/", route)
        asked = schema["paths"].get(route, {}).get("post", {}).get("requestBody")
        if asked is not None:
            body = asked["content"]["application/json"]["schema"]
            jsonschema.validate(golden["body"], {**schema, **body})
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({"colour": 1}, {**schema, **body})
            described += 1
    assert described >= 14


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_body_is_answered_as_its_client_expects(
    listen, path, tiny_checkpoint, ensemble_file, bos_checkpoint
):
    golden = json.loads(path.read_text())
    served = {"single": tiny_checkpoint, "ensemble": ensemble_file, "bos": bos_checkpoint}
    with listen(models=[served[golden["served"]]]) as url:
        answer = httpx2.post(url + golden["path"], json=golden["body"], timeout=30)
        numbers = own_numbers(url, golden)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == filled(golden["answer"], numbers)
    headers = {name: answer.headers.get(name) for name in golden.get("headers", {})}
    assert headers == golden.get("headers", {})
