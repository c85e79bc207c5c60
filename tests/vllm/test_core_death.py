"""vLLM's core is killed, frozen and poisoned under traffic: nothing is lost, and nothing wrong."""

import asyncio
import random
import signal
from pathlib import Path

import psutil
import pytest

from service.fair_queue import Caller

pytestmark = pytest.mark.asyncio(loop_scope="session")
CALLER = Caller(client="ppo")
TOLERANCE = 1e-5
# In /proc/net/tcp.
LISTENS, LOOPBACK = "0A", ("0100007F", "0" * 24 + "01000000")


def engine_cores() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [one for one in children if "EngineCore" in " ".join([one.name(), *one.cmdline()])]


def sequences(count: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [rng.choices(range(3, 200), k=rng.randint(5, 120)) for _ in range(count)]


async def ask(client, sequences) -> dict:
    body = {"items": [{"token_ids": ids} for ids in sequences]}
    answer = await client.post("/score", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def alone(served, wanted) -> list[float]:
    """Their scores from a core that nothing has happened to yet."""
    return [await served.member.submit(ids, CALLER).done for ids in wanted]


def listening_ports() -> set[tuple[str, int]]:
    """Addresses and ports on which this process or one below it listens on TCP."""
    own = psutil.Process()
    inodes = set()
    for process in [own, *own.children(recursive=True)]:
        for fd in Path(f"/proc/{process.pid}/fd").iterdir():
            target = str(fd.readlink()) if fd.is_symlink() else ""
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and fields[9] in inodes:
                address, port = fields[1].split(":")
                found.add((address, int(port, 16)))
    return found


async def test_a_loaded_core_is_reached_from_this_machine_only(served):
    """Torch's processes meet over TCP, even one alone; never on an address of the network."""
    assert engine_cores()
    assert [one for one in listening_ports() if one[0] not in LOOPBACK] == []


async def test_what_a_killed_core_held_is_computed_by_the_next(served):
    wanted = sequences(60, seed=2)
    true = await alone(served, wanted)
    (core,) = engine_cores()
    core.suspend()  # so that it holds all of them when it dies
    held = [served.member.submit(ids, CALLER) for ids in wanted]
    await served.until_busy()
    core.kill()
    async with asyncio.timeout(60):
        while served.core.alive:
            await asyncio.sleep(0)
    assert (await served.client.get("/readyz")).status_code == 503
    late = served.member.submit([5, 6, 7], CALLER)  # what comes meanwhile waits
    found = await asyncio.gather(*(work.done for work in held))
    await served.until_ready()
    assert found == pytest.approx(true, abs=TOLERANCE)
    assert isinstance(await late.done, float)
    assert [one.pid for one in engine_cores()] != [core.pid]


async def test_a_frozen_core_is_ended_and_the_next_computes_what_it_held(served, monkeypatch):
    wanted = sequences(10, seed=3)
    true = await alone(served, wanted)
    (core,) = engine_cores()
    monkeypatch.setattr(served.core, "_hang", 3.0)
    core.send_signal(signal.SIGSTOP)
    held = [served.member.submit(ids, CALLER) for ids in wanted]
    async with asyncio.timeout(60):
        while served.core.alive:
            await asyncio.sleep(0.05)
    monkeypatch.setattr(served.core, "_hang", 300.0)
    assert await asyncio.gather(*(work.done for work in held)) == pytest.approx(true, abs=TOLERANCE)
    await served.until_ready()


async def test_a_sequence_that_ends_the_core_is_found_and_quarantined(
    served, monkeypatch, pytestconfig
):
    """The fault is put in where a sequence is handed to the core, which then really dies."""
    if not pytestconfig.getoption("long"):
        pytest.skip("three cores are started one after another: pytest tests/vllm --long")
    poison, others = [9, 8, 7], sequences(12, seed=4)
    score = served.core._score

    async def deadly(ids, priority):
        if list(ids) == poison:
            for one in engine_cores():
                one.kill()
        return await score(ids, priority)

    monkeypatch.setattr(served.core, "_score", deadly)
    true = await alone(served, others)
    poisoned = ask(served.client, [poison])
    innocent = asyncio.gather(*(served.member.submit(ids, CALLER).done for ids in others))
    answer, found = await asyncio.gather(poisoned, innocent)
    assert answer["items"][0]["error"]["type"] == "engine-fault"
    assert found == pytest.approx(true, abs=TOLERANCE)
    await served.until_ready()
    (survivor,) = engine_cores()
    again = await ask(served.client, [poison, others[0]])
    assert again["items"][0]["error"]["type"] == "quarantined"
    assert again["items"][1]["score"] == pytest.approx(true[0], abs=TOLERANCE)
    assert [one.pid for one in engine_cores()] == [survivor.pid]
