"""However hostile the callers, the number of series is bounded by what is loaded."""

import asyncio
import json
import random
import string

from service.compat import peers
from service.fair_queue import SHARES
from service.problems import KINDS
from service.routes import OWN

KEYS = "ppo:right,eval:other,third"
CLIENTS = 3 + 2  # the keys, anonymous, a trusted network
METHODS = 5  # GET, POST, HEAD, DELETE, other
# With 499; of each status the routes may give.
CODES = len({kind.status for kind in KINDS.values()} | {200, 400, 499, 500, 503})
COMPAT_ERRORS = 3 * 7 * 10  # policies, peers, types of an item's error
HISTOGRAM = 20  # samples of one: edges, +Inf, count, sum, created


def most(models: int, ensembles: int) -> int:
    """The most series that a service with so many of each can have."""
    routes = len([*OWN, *peers.ROUTES]) + 1
    things = models + ensembles
    http = routes * METHODS * CODES + routes * 5 * HISTOGRAM + routes * len(KINDS)
    stages = 8 * HISTOGRAM
    of_models = models * (15 + 2 * HISTOGRAM) + things
    of_ensembles = ensembles * (2 + 2 * HISTOGRAM + models**2 + 10 * models)
    process = 150  # without labels, or with labels of a few fixed values
    return (
        http + stages + of_models + of_ensembles + process + 2 * CLIENTS + COMPAT_ERRORS
        + len(SHARES) * HISTOGRAM
    )  # fmt: skip


def requests(count: int):
    """Method, path, headers and body, from a seed: junk beside what is nearly right."""
    made = random.Random(0)

    def junk(most: int = 12) -> str:
        return "".join(made.choices(string.ascii_letters + string.digits + "/.%é☃", k=most))

    known = [route.path for route in [*OWN, *peers.ROUTES]]
    for i in range(count):
        path = made.choice(
            [made.choice(known), made.choice(known).replace("{model}", junk()), f"/{junk(30)}",
             f"/k/{junk()}/score", f"/v2/models/{junk()}/infer"]
        )  # fmt: skip
        headers = {
            "authorization": f"Bearer {made.choice(['right', 'ppo:right', 'third', junk()])}",
            "x-priority": made.choice(["train", "offline", junk()]),
            "x-request-id": junk(),
            "x-stainless-retry-count": made.choice(["0", "3", junk(), "9" * 40]),
            "traceparent": made.choice([junk(55), f"00-{i:032x}-{i:016x}-01"]),
            junk(): junk(),
        }
        name = made.choice(["m0", "ens", junk(), f"../{junk()}", None, 7])
        body = {
            "model": name, "ensemble": name, "revision": made.choice([None, junk()]),
            "items": [{"token_ids": made.choices(range(262), k=3)}],
            "truncation": made.choice(["left", junk()]), junk(): junk(),
        }  # fmt: skip
        for field in made.sample(sorted(body, key=str), made.randrange(len(body))):
            if field != "items":
                del body[field]
        if i % 4 == 0:  # what is scored, under whatever headers
            path = made.choice(["/score", "/ensemble_score", "/get_reward"])
            headers |= {"authorization": "Bearer right", "x-priority": "offline"}
            body = {"items": body.get("items", [])}
            body |= {"model": "m1"} if path == "/score" else {}
            body = {"query": [junk()]} if path == "/get_reward" else body
        yield made.choice(["GET", "POST", "POST", "POST", junk(4)]), path, headers, body


async def send(app, method, path, headers, body) -> int:
    """One request straight into the application; its status."""
    whole = json.dumps(body).encode()
    told = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": told, "client": ("10.1.2.3", 9), "server": ("test", 80),
        "state": {},
    }  # fmt: skip
    messages = iter([{"type": "http.request", "body": whole, "more_body": False}])
    statuses = []

    async def receive():
        for message in messages:
            return message
        await asyncio.Event().wait()  # the caller stays

    async def answer(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, answer)
    return (statuses or [499])[0]


async def test_ten_thousand_hostile_requests_make_no_more_series_than_the_formula(
    serve, ensemble_file, metrics
):
    async with serve(models=[ensemble_file], api_keys=KEYS, log_level="error") as client:
        app = client._transport.app
        seen = set()
        counts = []
        for i, request in enumerate(requests(10_000), start=1):
            seen.add(await send(app, *request))
            if i % 5000 == 0:
                counts.append(sum(len(f.samples) for f in metrics.registry.collect()))
    assert seen >= {200, 401, 404, 405, 422}  # they came this far
    assert counts[-1] <= most(models=3, ensembles=1)
    # What is left to come is combinations of the closed sets, and no request brings its own.
    assert counts[1] - counts[0] < 200
