"""Python of the pages runs: against a real server of tiny models where it asks one.

Blocks for another program's process are compiled, and what they import of Plaudit is there.
"""

import ast
import asyncio
import gc
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, closing
from importlib import import_module
from pathlib import Path
from typing import Any

import cohere
import pytest
from doc_blocks import Block, blocks

from plaudit import RewardClient

# By what a block contains: why it is compiled only.
NOT_RUN = {
    "from vllm import": "vLLM is not installed beside the service; tests/vllm runs it",
    "GRPOTrainer(": "needs a policy and a dataset of the reader's",
    "from areal.workflow": "runs inside AReaL",
    "nemo_rl.register()": "runs inside NeMo-RL",
    "from swift.rewards import": "runs inside ms-swift",
}
FOUND = [block for block in blocks() if block.language == "python"]
RUN = [block for block in FOUND if not any(part in block.text for part in NOT_RUN)]
FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def named(found: list[Block]) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in found]


def at(url: str, block: Block, revision: str) -> str:
    """The block's text with the live server's address for those it shows."""
    port = url.rpartition(":")[2]
    text = block.text.replace("sha256:…", revision)
    for shown, host in {
        "127.0.0.1": "127.0.0.1", "HOST": "127.0.0.1",
        "reward-0": "127.0.0.1", "reward-1": "localhost", "reward-2": "LOCALHOST",
    }.items():  # fmt: skip
        text = text.replace(f"http://{shown}:8000", f"http://{host}:{port}")
    return text


def my_rewards(url: str, prompt: str, responses: list[str]) -> list[float | None]:
    with RewardClient(url, model="fake") as client:
        return client.score([(prompt, response) for response in responses]).rewards


@pytest.fixture
def known(served: str) -> Iterator[dict[str, Any]]:
    """What a page takes as the reader's own. Clients are closed, those that a block makes too."""

    with ExitStack() as clients, RewardClient(served, model="warm") as client:
        names = {"client": client, **readers_own(served)}
        yield names
        for one in names.values():
            if isinstance(one, RewardClient):
                clients.enter_context(closing(one))


def readers_own(url: str) -> dict[str, Any]:
    return {
        "RewardClient": RewardClient,
        "url": url,
        "pairs": [("Hi", "Hello"), ("Hi", "Go away")],
        "prompt": "Hi",
        "responses": ["Hello", "Go away"],
        "my_trace": lambda: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "my_rewards": my_rewards,
        "cohere": cohere,
    }


@pytest.mark.filterwarnings("ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("block", named(RUN))
def test_a_block_runs(
    block: Block, known: dict[str, Any], demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(demo)
    revision = known["client"].models()[0].revision
    code = compile(at(known["url"], block, revision), str(block), "exec", flags=FLAGS)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, known))
    else:
        exec(code, known)
    for name, function in [*known.items()]:
        if name.startswith("test_"):
            function()
    gc.collect()  # Cohere's client closes nothing; its warning is to come here


@pytest.mark.parametrize("block", named(FOUND))
def test_what_a_block_imports_of_plaudit_is_there(block: Block) -> None:
    tree = compile(block.text, str(block), "exec", flags=FLAGS | ast.PyCF_ONLY_AST)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("plaudit"):
            module = import_module(node.module or "")
            for one in node.names:
                assert hasattr(module, one.name) or import_module(f"{node.module}.{one.name}")


def test_every_reason_not_to_run_a_block_has_its_block() -> None:
    assert all(any(part in block.text for block in FOUND) for part in NOT_RUN)
