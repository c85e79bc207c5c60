"""Models swapped under traffic, from a server process whose every score is known beforehand."""

import asyncio
import itertools
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from served_process import ServedProcess

from plaudit import checkpoint, ensemble
from plaudit.wire import Item
from service.admin_client import AdminClient
from service.engines.torch_engine import TorchEngine
from service.fair_queue import Caller
from service.items import ids_of
from service.metrics import Metrics
from service.settings import Settings
from service.swap_request import Exchange, Limits, ShadowPlan, SwapRequest
from service.swap_state import SwapView
from training.service_process import free_port

NAMES = ("a", "b", "c")
ITEMS = [Item(prompt=f"Why {i % 4}?", response=f"Because of {i * i}.") for i in range(16)]
SENT = [{"prompt": item.prompt, "response": item.response} for item in ITEMS]
PATIENCE = 300


@pytest.fixture
def root(tmp_path, members):
    """Good checkpoints ``a``, ``b``, ``c``, and five that must not be served."""
    found = tmp_path / "root"
    for name, source in zip(NAMES, members, strict=True):
        shutil.copytree(source, found / name)
    for bad in ("truncated", "flipped", "pickled", "torn"):
        shutil.copytree(found / "a", found / bad)
    weights = "model.safetensors"
    (found / "truncated" / weights).write_bytes((found / "a" / weights).read_bytes()[:-1000])
    data = bytearray((found / "a" / weights).read_bytes())
    data[-1] ^= 1
    (found / "flipped" / weights).write_bytes(data)
    (found / "pickled" / weights).rename(found / "pickled" / "pytorch_model.bin")
    (found / "torn" / "reward.json").write_text("{")
    (found / "empty").mkdir()
    return found


BAD = ("truncated", "flipped", "pickled", "torn", "empty", "gone", "..", "/etc")


async def scores_of(directories):
    """By revision the raw scores of ITEMS, as an engine of its own computes them to the bit."""
    settings = Settings(
        device="cpu", dtype="float32", deterministic=True, threads=1, _cli_parse_args=False
    )
    engine = TorchEngine(settings, Metrics())
    found = {}
    try:
        for member in (await engine.open({path.name: path for path in directories})).values():
            asked = [ids_of(member.encoder, item, None) for item in ITEMS]
            works = [member.submit(ids, Caller()) for ids in asked]
            found[member.revision] = [await work.done for work in works]
    finally:
        await engine.close()
    return found


@contextmanager
def served(models, root, *flags):
    """A server process and the client of its admin port."""
    port = free_port()
    admin = ("--admin-port", str(port), "--admin-keys", "ops:operator", "--model-root", str(root))
    server = ServedProcess(models, *admin, "--threads", "1", *flags)
    try:
        server.wait()
        with AdminClient(f"http://127.0.0.1:{port}", "operator") as operator:
            yield server, operator
    finally:
        server.kill()


class Traffic:
    """Clients that ask until the block ends, and what they saw: ``wrong`` scores, ``lost``
    requests, ``answered``, and the revisions of each answer of the ensemble."""

    def __init__(self, url, truth, revisions, rng):
        self._truth, self._first = truth, revisions
        self._http = httpx2.Client(base_url=url, timeout=PATIENCE)
        self._over, self._rng = threading.Event(), rng
        self._lock = threading.Lock()
        self.counted: Counter[str] = Counter()
        self.met: set[tuple[str, ...]] = set()

    @contextmanager
    def going(self):
        clients = [self._free, self._free, self._joint, self._pinned]
        with self._http, ThreadPoolExecutor(len(clients)) as pool:
            running = [pool.submit(self._until_over, one, self._rng.random()) for one in clients]
            try:
                yield
            finally:
                self._over.set()
        for one in running:
            one.result()

    def wait_for(self, more):
        """Until as many more requests were answered."""
        enough = self.counted["answered"] + more
        while self.counted["answered"] < enough and not self._over.wait(0.01):
            pass

    def _until_over(self, ask, seed):
        draw = type(self._rng)(seed)
        while not self._over.is_set():
            places = draw.sample(range(len(ITEMS)), draw.randint(1, 5))
            try:
                ask(places)
            except httpx2.HTTPError:
                self._count("lost")

    def _post(self, route, places, **fields):
        items = [SENT[i] for i in places]
        return self._http.post(route, json={"items": items, **fields})

    def _count(self, what, many=1):
        with self._lock:
            self.counted[what] += many

    def _free(self, places):
        self._check(places, self._post("/score", places, model="a"))

    def _pinned(self, places):
        """To the revision that was served first: its scores, or the word that it has changed."""
        answer = self._post("/score", places, model="a", revision=self._first[0])
        if answer.status_code == 409 and answer.json()["type"].endswith("#revision-changed"):
            self._count("answered")
            self._count("pinned_409")
            self._count("wrong", answer.json()["revision"] == self._first[0])
            self._over.wait(0.05)  # it is told at once, and would be most of the traffic
            return
        self._check(places, answer)
        self._count("wrong", answer.is_success and answer.json()["revision"] != self._first[0])

    def _check(self, places, answer):
        if answer.status_code != 200:
            self._count("lost")
            return
        said = answer.json()
        self._compare(said["revision"], [item.get("score") for item in said["items"]], places)
        self._count("answered")

    def _compare(self, revision, scores, places):
        true = self._truth[revision]
        both = zip(scores, places, strict=True)
        self._count("wrong", sum(score != true[i] for score, i in both))

    def _joint(self, places):
        answer = self._post("/ensemble_score", places)
        if answer.status_code != 200:
            self._count("lost")
            return
        said = answer.json()
        revisions = tuple(member["revision"] for member in said["members"])
        self._count("wrong", said["revision"] != ensemble.revision(revisions, None))
        for number, revision in enumerate(revisions):
            self._compare(revision, [row[number] for row in said["member_scores"]], places)
        with self._lock:
            self.met.add(revisions)
        self._count("answered")


def exchanges(rng):
    """One model, or two in one step."""
    models = rng.sample(NAMES, rng.choice((1, 1, 2)))
    return [Exchange(model, rng.choice(NAMES)) for model in models]


def test_every_score_is_of_the_revision_that_its_answer_names(root, tmp_path, promise, rng, long):
    """While the members of an ensemble are swapped again and again, one or two at a time, some
    after a comparison, with checkpoints between them that are refused, every score is exactly that
    of the revision which its answer names, an ensemble's answer is of one set of members that were
    served together, no request is lost, and a pinned client gets its revision or a 409.
    """
    file = tmp_path / "ens.yaml"
    file.write_text(f"members: {[str(root / name) for name in NAMES]}\n")
    revision = {name: checkpoint.read(root / name)[1] for name in NAMES}
    truth = asyncio.run(scores_of([root / name for name in NAMES]))
    first = tuple(revision[name] for name in NAMES)
    flags = ("--deterministic", "--cache-megabytes", "0")
    sets, now, counts = {first}, dict(zip(NAMES, first, strict=True)), Counter()
    after_comparison = 0
    with served([file], root, *flags) as (server, operator):
        traffic = Traffic(server.url, truth, first, rng)
        with traffic.going():
            for number in range(80 if long else 10):
                traffic.wait_for(8)
                if number % 2:
                    bad = [*exchanges(rng), Exchange("none", "a")][:1]
                    bad = [Exchange(bad[0].model, rng.choice(BAD))]
                    assert not isinstance(operator.swap(SwapRequest(swaps=bad)), SwapView)
                    counts["refused"] += 1
                asked = exchanges(rng)
                compared = number % 3 == 2
                plan = ShadowPlan(share=1.0, items=8, seconds=120.0) if compared else None
                limits = Limits(items=2) if compared else None
                later = dict(now, **{one.model: revision[one.checkpoint] for one in asked})
                sets.add(tuple(later.values()))
                done = operator.swap(SwapRequest(swaps=asked, shadow=plan, require=limits))
                assert isinstance(done, SwapView), done
                done = operator.ended(done.id, 0.02) if compared else done
                assert isinstance(done, SwapView)
                counts[done.state] += 1
                after_comparison += compared and done.state == "switched"
                now = later if done.state == "switched" else now
            traffic.wait_for(8)
    counted = traffic.counted
    assert counted["pinned_409"]
    assert counts["switched"] >= 6
    assert after_comparison
    promise(
        requests=counted["answered"], faults=counts.total(), lost=counted["lost"],
        wrong=counted["wrong"] + len(traffic.met - sets), swaps=counts["switched"],
        refused_checkpoints=counts["refused"], pinned_409=counted["pinned_409"],
    )  # fmt: skip


@pytest.fixture
def wide(tmp_path, tokenizer, save_plain, make_complete) -> Path:
    """A model root with two models of 17 MB."""
    for seed, name in enumerate("ab"):
        plain = save_plain(
            tmp_path / "wide" / name, tokenizer, seed, hidden_size=256, intermediate_size=2048,
            num_hidden_layers=3,
        )  # fmt: skip
        make_complete(plain, max_tokens=128)
    return tmp_path / "wide"


def test_memory_does_not_grow_from_swap_to_swap(wide, promise, long):
    """Two models take each other's place again and again under traffic, now and then with a
    checkpoint between them that is refused, and the process needs no more memory in the end than
    after the first few swaps: less than what two models take.
    """
    shutil.copytree(wide / "a", wide / "flipped")
    [weights] = (wide / "flipped").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    size, swaps = weights.stat().st_size, 60 if long else 16
    answered, sizes = 0, []
    with (
        served([wide / "a"], wide) as (server, operator),
        httpx2.Client(base_url=server.url, timeout=PATIENCE) as http,
    ):
        for number, name in zip(range(swaps), itertools.cycle("ba"), strict=False):
            if number % 4 == 3:
                operator.swap(SwapRequest("a", "flipped"))
            done = operator.swap(SwapRequest("a", name))
            assert isinstance(done, SwapView)
            answer = http.post("/score", json={"items": SENT})
            assert answer.json()["revision"] == done.swaps[0].after
            answered += 1
            sizes.append(resident_bytes(server.pid))
    settled = max(sizes[4:8])
    promise(
        requests=answered, faults=swaps, model_megabytes=round(size / 1e6, 1),
        grown_megabytes=round((sizes[-1] - settled) / 1e6, 1),
    )  # fmt: skip
    assert sizes[-1] < settled + 2 * size


def resident_bytes(pid):
    [line] = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line
    ]
    return int(line.split()[1]) * 1024
