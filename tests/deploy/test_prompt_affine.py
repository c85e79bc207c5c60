"""The router in front of the replicas: the real Envoy with the manifest's own configuration."""

import copy
import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import proxies
import pytest
import yaml
from manifests import Manifest

from plaudit.client import RewardClient
from plaudit.client.prompt_header import PROMPT_HEADER
from plaudit.testing import FakeServer
from training.service_process import free_port

PROMPTS = [f"question {n}" for n in range(40)]


@pytest.fixture(scope="module")
def envoy() -> str:
    return proxies.envoy()


@pytest.fixture(scope="module")
def configuration(root: Path) -> Manifest:
    path = root / "k8s" / "components" / "prompt-affine" / "envoy.yaml"
    made: Manifest = yaml.safe_load(path.read_text())
    return made


@pytest.fixture
def replicas() -> Iterator[list[FakeServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeServer()) for _ in range(3)]


Route = Callable[[], str]


@pytest.fixture
def router(
    envoy: str, configuration: Manifest, replicas: list[FakeServer], tmp_path: Path
) -> Iterator[Route]:
    """Starts a router before the replicas and gives its URL."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(routing(envoy, configuration, replicas, tmp_path))


@contextmanager
def routing(
    envoy: str, configuration: Manifest, replicas: list[FakeServer], folder: Path
) -> Iterator[str]:
    port = free_port()
    path = folder / f"{port}.yaml"
    path.write_text(json.dumps(placed(configuration, replicas, port)))
    words = ["--config-path", str(path), "--disable-hot-restart", "--concurrency", "1"]
    log = folder / f"{port}.log"
    with subprocess.Popen([envoy, *words, "--log-level", "warn", "--log-path", str(log)]) as run:
        try:
            with RewardClient(f"http://127.0.0.1:{port}") as client:
                client.wait_ready(120)
            yield f"http://127.0.0.1:{port}"
        finally:
            run.terminate()


def placed(configuration: Manifest, replicas: list[FakeServer], port: int) -> Manifest:
    """On this machine: the addresses that the names of the cluster would lead to, and no more."""
    made = copy.deepcopy(configuration)
    (listener,) = made["static_resources"]["listeners"]
    (cluster,) = made["static_resources"]["clusters"]
    listener["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster["type"] = "STATIC"
    (named,) = cluster["load_assignment"]["endpoints"]
    named["lb_endpoints"] = [{"endpoint": {"address": address(each)}} for each in replicas]
    return made


def address(replica: FakeServer) -> Manifest:
    port = int(replica.url.rpartition(":")[2])
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def scored(replicas: list[FakeServer]) -> dict[str, set[int]]:
    """The replicas that saw each prompt."""
    seen: dict[str, set[int]] = {}
    for n, replica in enumerate(replicas):
        for received in replica.requests:
            if received.path == "/score":
                for item in json.loads(received.body)["items"]:
                    seen.setdefault(item["prompt"], set()).add(n)
    return seen


def ask(url: str, prompts: list[str], times: int = 2) -> None:
    with RewardClient(url, max_retries=0) as client:
        for prompt in prompts * times:
            client.score([(prompt, "an answer"), (prompt, "another")])


def test_the_configuration_is_valid_as_it_stands(root: Path, envoy: str, tmp_path: Path) -> None:
    path = root / "k8s" / "components" / "prompt-affine" / "envoy.yaml"
    words = ["--mode", "validate", "--config-path", str(path), "--log-level", "error"]
    done = subprocess.run([envoy, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_routers_send_a_prompt_to_one_replica_and_each_replica_has_a_share(
    router: Route, replicas: list[FakeServer]
) -> None:
    for url in (router(), router()):
        ask(url, PROMPTS)
    seen = scored(replicas)
    assert set(seen) == set(PROMPTS)
    assert all(len(places) == 1 for places in seen.values()), seen
    shares = Counter(next(iter(places)) for places in seen.values())
    assert len(shares) == len(replicas)


def test_when_a_replica_goes_no_call_fails_and_only_its_prompts_move(
    router: Route, replicas: list[FakeServer]
) -> None:
    url = router()
    ask(url, PROMPTS, times=1)
    before = scored(replicas)
    gone = replicas[1]
    gone.__exit__(None, None, None)
    ask(url, PROMPTS, times=1)
    after = scored(replicas)
    for prompt, places in before.items():
        if places != {1}:
            assert after[prompt] == places
    assert all(after[prompt] - {1} for prompt in PROMPTS)


def test_requests_about_several_prompts_go_to_any_replica(
    router: Route, replicas: list[FakeServer]
) -> None:
    url = router()
    with RewardClient(url) as client:
        for _ in range(40):
            client.score([("one", "r"), ("another", "r")])
    assert len(scored(replicas)["one"]) == len(replicas)


def test_a_request_arrives_as_it_was_sent(router: Route, replicas: list[FakeServer]) -> None:
    with RewardClient(router()) as client:
        client.score([("one", "r")])
    (received,) = [each for one in replicas for each in one.requests if each.path == "/score"]
    assert len(received.headers["x-request-id"]) == 32
    assert received.headers[PROMPT_HEADER.lower()]
    assert received.headers["x-request-deadline-ms"]


def test_the_router_says_itself_that_it_runs(router: Route, replicas: list[FakeServer]) -> None:
    with urlopen(Request(router() + "/routerz"), timeout=30) as answer:
        assert answer.status == 200
    assert not [each for one in replicas for each in one.requests if each.path == "/routerz"]


def test_the_router_hashes_the_header_that_the_client_sends(configuration: Manifest) -> None:
    (listener,) = configuration["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    (policy,) = route["route"]["hash_policy"]
    assert policy["header"]["header_name"] == PROMPT_HEADER.lower()
