"""An ensemble of two members served by vLLM in bf16: a core each, heads in fp32.

The members have one body. The head of ``coarse`` fits in bf16, that of ``fine`` is the same times
``FINER``, which bf16 cannot tell from -1. Weights are so small that scores of some .6 err by some
.01 in bf16.
"""

import random
import shutil

import numpy as np
import pytest
import pytest_asyncio
import torch
from safetensors.torch import load_file, save_file

from service.fair_queue import Caller
from service.parity import plain

pytestmark = pytest.mark.asyncio(loop_scope="session")
FINER = -1 - 2**-10
BF16_TOLERANCE = 0.05


@pytest.fixture(scope="module", autouse=True)
def long_alone(pytestconfig):
    if not pytestconfig.getoption("long"):
        pytest.skip("two cores are started, a minute and a half: pytest tests/vllm --long")


@pytest.fixture(scope="module")
def directories(tmp_path_factory, tokenizer, save_plain, make_complete):
    root = tmp_path_factory.mktemp("ensemble")
    plain = save_plain(
        root / "plain", tokenizer, seed=0, initializer_range=0.05,
        hidden_size=128, num_attention_heads=2, num_key_value_heads=1,
    )  # fmt: skip
    head = load_file(plain / "model.safetensors")["score.weight"].bfloat16().float()
    heads = {"coarse": head, "fine": head * FINER}
    return [make_complete(with_head(root / name, plain, one)) for name, one in heads.items()]


def with_head(directory, plain, head):
    """A copy of ``plain`` with another head."""
    shutil.copytree(plain, directory)
    weights = load_file(directory / "model.safetensors") | {"score.weight": head}
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ensemble(serve, settings, directories):
    changes = {
        "models": directories,
        "ensemble": True,
        "dtype": "bfloat16",
        "vllm_memory": 2 * settings.vllm_memory,
    }
    async with serve(settings.model_copy(update=changes)) as served:
        yield served


@pytest.fixture(scope="module")
def sequences():
    rng = random.Random(7)
    return [rng.choices(range(3, 200), k=rng.randint(5, 120)) for _ in range(32)]


def exact(directory, sequences):
    """By Transformers in fp32."""
    return plain(directory, sequences, "float32", torch.device("cpu"))


async def alone(member, sequences):
    """One at a time, so that bodies round alike."""
    return np.array([await member.submit(ids, Caller()).done for ids in sequences])


async def test_heads_are_in_fp32_over_bodies_in_bf16(ensemble, directories, sequences):
    coarse, fine = [
        await alone(ensemble.registry.model(one.name), sequences) for one in directories
    ]
    assert fine == pytest.approx(coarse * FINER, abs=1e-6)
    assert 1e-3 < abs(coarse - exact(directories[0], sequences)).max() < BF16_TOLERANCE


async def test_each_member_has_a_core_and_its_part_of_the_memory(ensemble):
    cores = ensemble.engine._cores
    assert len({pid for core in cores for pid in core.pids}) == len(cores) == 2
    shares = [core._llm.vllm_config.cache_config.gpu_memory_utilization for core in cores]
    assert shares == [ensemble.engine._settings.vllm_memory / 2] * 2


async def test_an_ensemble_asks_every_core(ensemble, directories, sequences):
    body = {"items": [{"token_ids": ids} for ids in sequences]}
    answer = await ensemble.client.post("/ensemble_score", json=body)
    assert answer.status_code == 200, answer.text
    found = np.array(answer.json()["member_scores"])
    assert [one["name"] for one in answer.json()["members"]] == ["coarse", "fine"]
    for column, directory in zip(found.T, directories, strict=True):
        assert abs(column - exact(directory, sequences)).max() < BF16_TOLERANCE
