"""Who may score: by a key in a header or in the path, or from a trusted network; nobody sees it."""

import base64
import json
import logging

import httpx2
import pytest

from service.compat import peers
from service.entrance import Entrance, networks
from service.key_sources import of_setting
from service.keys import Keys
from service.logs import JsonFormatter
from service.routes import OWN, Routes
from service.settings import SettingsError, load

KEY = "sesame-7261"
QUERY = {"query": ["a"]}
SAMPLE = {"prompt": "a", "response": "b"}
INFER = {"inputs": [{"name": "sentences", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
BODIES = {
    "/get_reward": QUERY,
    "/slime": SAMPLE,
    "/v2/models/reward_model/infer": INFER,
}
SHAPES = {
    "/get_reward": {"error", "type"},
    "/slime": {"error", "type"},
    "/v2/models/reward_model/infer": {"error"},
}


def entrance_of(trusted: str = "") -> Entrance:
    keys = Keys(of_setting(KEY, None, "--api-keys"))
    return Entrance(keys, networks(trusted), Routes([*OWN, *peers.ROUTES]), lambda _: False)


def basic(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


@pytest.mark.parametrize("path", BODIES)
async def test_a_key_opens_a_route_in_four_ways(serve, tiny_checkpoint, path):
    async with serve(models=[tiny_checkpoint], api_keys=f"other,{KEY}") as client:
        for to, headers in (
            (path, {"Authorization": f"Bearer {KEY}"}),
            (path, basic("anybody", KEY)),
            (path, basic("", KEY)),
            (f"/k/{KEY}{path}", {}),
        ):
            response = await client.post(to, json=BODIES[path], headers=headers)
            assert response.status_code == 200, response.text


@pytest.mark.parametrize("path", BODIES)
async def test_without_it_the_answer_is_in_the_peers_shape(serve, tiny_checkpoint, path):
    async with serve(models=[tiny_checkpoint], api_keys=KEY) as client:
        for to, headers in (
            (path, {}),
            (path, {"Authorization": "Bearer no"}),
            (path, {"Authorization": f"Digest {KEY}"}),
            (path, {"Authorization": "Basic ***"}),
            (path, {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}),
            (path, basic(KEY, "")),
            (f"/k/no{path}", {}),
        ):
            response = await client.post(to, json=BODIES[path], headers=headers)
            assert response.status_code == 401
            assert response.json().keys() == SHAPES[path]
        wrong_method = await client.delete(f"/k/{KEY}{path}")
        malformed = await client.post(f"/k/{KEY}{path}", content=b"{")
    assert wrong_method.status_code == 405
    assert malformed.status_code in (400, 422)
    assert wrong_method.json().keys() == malformed.json().keys() == SHAPES[path]


@pytest.mark.parametrize("path", ["/score", "/ensemble_score", "/models", "/nothing", ""])
async def test_a_key_in_the_path_opens_no_route_of_our_own(serve, tiny_checkpoint, path):
    async with serve(models=[tiny_checkpoint], api_keys=KEY) as client:
        for method in ("GET", "POST"):
            response = await client.request(method, f"/k/{KEY}{path}")
            assert response.status_code == 401
            assert KEY not in response.text + str(response.headers)


async def test_without_keys_one_in_the_path_is_left_aside(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint]) as client:
        assert (await client.post("/k/any/get_reward", json=QUERY)).status_code == 200
        assert (await client.post("/k/any/score", json={"items": []})).status_code == 404


def test_a_key_in_the_path_is_in_no_log_metric_or_answer(listen, tiny_checkpoint, caplog):
    """With the real server, at the most that logs can say."""
    formatter = JsonFormatter()
    with (
        caplog.at_level(logging.DEBUG),
        listen(models=[tiny_checkpoint], api_keys=KEY) as url,
        httpx2.Client(base_url=url, timeout=30) as client,
    ):
        answers = [
            client.post(f"/k/{KEY}/get_reward", json=QUERY),
            client.post(f"/k/{KEY}/get_reward", json={"query": [""]}),
            client.post(f"/k/{KEY}/get_reward/", json=QUERY),
            client.post(f"/k/{KEY}/get_reward", content=b"{"),
            client.get(f"/k/{KEY}/slime"),
            client.post(f"/k/{KEY}/score", json={}),
            client.get(f"/k/{KEY}"),
            client.post(f"/k/{KEY}x/get_reward", json=QUERY),
            client.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}),
        ]
    for answer in answers:
        assert KEY not in answer.text + str(answer.headers)
    theirs = ("httpx2", "httpcore2")  # the client of this test knows where it calls
    lines = [formatter.format(r) for r in caplog.records if not r.name.startswith(theirs)]
    routes = [json.loads(line).get("route") for line in lines]
    assert routes.count("/get_reward") == 4
    assert not [line for line in lines if KEY in line]
    counted = 'code="200",method="POST",route="/get_reward"'
    assert counted in answers[-1].text


def test_the_scope_itself_has_no_key_any_more():
    """Servers' own access logs read the path in it after the application has run."""
    for rest, left in (("/get_reward", "/get_reward"), ("/score", "/k"), ("", "/k")):
        path = f"/k/{KEY}{rest}"
        scope = {"type": "http", "path": path, "raw_path": path.encode()}
        entrance_of().take_key(scope)
        assert scope == {"type": "http", "path": left, "raw_path": left.encode()}


@pytest.mark.parametrize(
    ("trusted", "headers", "status"),
    [
        ("127.0.0.0/8", {}, 200),
        ("10.0.0.0/8,127.0.0.1", {}, 200),
        ("10.0.0.0/8", {}, 401),
        ("10.0.0.0/8", {"X-Forwarded-For": "10.1.2.3"}, 401),
        ("10.0.0.0/8", {"Forwarded": "for=10.1.2.3"}, 401),
    ],
)
def test_a_trusted_network_scores_and_does_no_more(
    listen, tiny_checkpoint, trusted, headers, status
):
    settings = {"models": [tiny_checkpoint], "api_keys": KEY, "trusted_networks": trusted}
    with (
        listen(**settings) as url,
        httpx2.Client(base_url=url, headers=headers, timeout=30) as client,
    ):
        for path, body in BODIES.items():
            assert client.post(path, json=body).status_code == status
        assert client.post("/score", json={"items": []}).status_code == status
        assert client.get("/models").status_code == 401
        assert client.get("/nothing").status_code == 401


@pytest.mark.parametrize(
    ("client", "trusted"),
    [
        (("10.1.2.3", 5), True),
        (("::ffff:10.1.2.3", 5), True),  # by IPv4 to a socket of IPv6
        (("fd00::7", 5), True),
        (("11.1.2.3", 5), False),
        (("fe80::1", 5), False),
        (("", 0), False),  # of a socket that is no network's
        (None, False),
    ],
)
def test_the_address_of_the_socket_decides(client, trusted):
    entrance = entrance_of("10.0.0.0/8,fd00::/8")
    assert entrance.trusts({"type": "http", "path": "/score", "client": client}) is trusted


@pytest.mark.parametrize("text", ["10.0.0.0/33", "0.0.0.0/0", "::/0", "everybody", "10.0.0.1/8"])
def test_a_network_that_is_none_or_everybody_is_refused_at_the_start(text):
    with pytest.raises(SettingsError, match="--trusted-networks"):
        load(["x", "--trusted-networks", text])


def test_networks_are_read():
    assert [str(one) for one in networks("10.0.0.0/8, fd00::/8,192.0.2.7")] == [
        "10.0.0.0/8", "fd00::/8", "192.0.2.7/32",
    ]  # fmt: skip
    assert networks("") == []


def test_every_route_of_a_peer_that_scores_needs_a_key():
    for route in peers.ROUTES:
        assert route.of_a_peer
        assert route.use == "scoring" or route.path in (
            "/v2",
            "/v2/health/live",
            "/v2/health/ready",
            "/health",
        )
