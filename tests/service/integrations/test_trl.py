"""TRL's own GRPOTrainer, rewarded by a live service."""

import asyncio
import atexit
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import shutdown_event_loop_in_daemon

from plaudit import ItemsFailed, RewardClient
from plaudit.integrations.source import close_async
from plaudit.integrations.trl import AsyncReward, Reward
from plaudit.integrations.wait_share import WaitShare
from plaudit.testing import FakeServer
from plaudit.wire import Item, ItemError

LIMIT = 100
# With the template the second is over the limit, whatever is answered.
PROMPTS = ["Why?", "Why " * 30]


def run(
    reward: Any, prompts: list[Any], tokenizer: PreTrainedTokenizerFast, out: Path
) -> GRPOTrainer:
    """Two steps, two completions of each prompt, 8 tokens each."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, pad_token_id=0, eos_token_id=2,
    )  # fmt: skip
    arguments = GRPOConfig(
        str(out), max_steps=2, per_device_train_batch_size=4, num_generations=2,
        max_completion_length=8, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no",
        log_completions=False, seed=1, disable_tqdm=True, shuffle_dataset=False, beta=0.0,
    )  # fmt: skip
    trainer = GRPOTrainer(
        LlamaForCausalLM(config),
        reward,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts] * 2),
        processing_class=tokenizer,
    )
    trainer.train()
    if trainer._has_async_funcs:
        end(trainer)
    return trainer


def end(trainer: GRPOTrainer) -> None:
    """What TRL leaves to the end of the process, which it does not close."""
    asyncio.run_coroutine_threadsafe(close_async(), trainer.async_loop).result()
    atexit.unregister(shutdown_event_loop_in_daemon)
    shutdown_event_loop_in_daemon(trainer.async_loop_thread, trainer.async_loop)
    trainer.async_loop.close()


@pytest.fixture
def short(tmp_path: Path, tiny_checkpoint: Path, copy_with: Any) -> Path:
    return copy_with(tiny_checkpoint, tmp_path / "short", max_tokens=LIMIT)


@pytest.mark.parametrize("kind", [Reward, AsyncReward])
@pytest.mark.parametrize("conversational", [False, True])
def test_two_steps_of_grpo_are_rewarded_by_the_service_and_what_failed_is_left_out(
    listen: Any,
    short: Path,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    kind: Any,
    conversational: bool,
) -> None:
    prompts: list[Any] = list(PROMPTS)
    if conversational:
        prompts = [[{"role": "user", "content": text}] for text in PROMPTS]
    with listen(models=[short]) as url:
        trainer = run(kind(url, model="short"), prompts, tokenizer, tmp_path / "out")
        logs = trainer._logs
        failed = [math.isnan(reward) for reward in logs["rewards"]["short"]]
        assert sum(failed) == len(failed) / 2
        assert all(a == 0 for a, bad in zip(logs["advantages"], failed, strict=True) if bad)
        assert any(a != 0 for a, bad in zip(logs["advantages"], failed, strict=True) if not bad)
        assert_served(url, logs, conversational)
    for step in trainer.state.log_history[:2]:
        assert math.isfinite(step["reward"])
        assert step["plaudit/failed_share"] == 0.5
        assert 0 < step["plaudit/wait_share"] < 1


def assert_served(url: str, logs: Any, conversational: bool) -> None:
    """Each reward is what the service gives that prompt and completion."""
    rows = zip(logs["prompt"], logs["completion"], logs["rewards"]["short"], strict=True)
    kept = [row for row in rows if not math.isnan(row[2])]
    pairs = [
        (p, c[0]["content"]) if conversational else (p, c) for p, c, _ in kept
    ]  # as they were asked for, not as the adapter sends them
    with RewardClient(url) as client:
        assert client.score(pairs).rewards == pytest.approx([r for *_, r in kept], abs=1e-5)


def test_an_ensembles_penalty_is_on_and_its_disagreement_logged(
    listen: Any, ensemble_file: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    with listen(models=[ensemble_file]) as url:
        reward = AsyncReward(url, ensemble="ens", aggregate="lcb", coefficient=2.0)
        trainer = run(reward, ["Why?", "How?"], tokenizer, tmp_path / "out")
        logs = trainer._logs
        pairs = list(zip(logs["prompt"], logs["completion"], strict=True))
        with RewardClient(url) as client:
            found = client.ensemble_score(pairs)
    spread = [variance**0.5 for variance in found.variance if variance is not None]
    penalised = [m - 2 * s for m, s in zip(found.mean, spread, strict=True) if m is not None]
    assert logs["rewards"]["ens"] == pytest.approx(penalised, abs=1e-4)
    assert list(logs["extra"]["ens_disagreement"]) == pytest.approx(spread, abs=1e-4)
    last = trainer.state.log_history[1]  # TRL keeps the completions of the last step alone
    assert last["plaudit/disagreement"] == pytest.approx(sum(spread) / len(spread), abs=1e-4)


def test_rewards_without_a_member_are_counted_and_warned_of(
    listen: Any, leaky_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One member takes 150 tokens."""
    logged: dict[str, float] = {}
    with listen(models=[leaky_file]) as url:
        reward = Reward(url, ensemble="leaky")
        found = reward(["Why?"] * 2, ["x", "x" * 140], log_metric=logged.__setitem__)
    assert None not in found
    assert logged["plaudit/degraded_share"] == 0.5
    assert "the rewards of 1 of 2 items are without some members" in caplog.text


def too_long(item: Item) -> float | ItemError:
    return ItemError("too-long", "many tokens") if item.response == "bad" else 1.5


@pytest.mark.parametrize(
    ("failed", "expected"), [(None, [1.5, None]), ("none", [1.5, None]), (-3.0, [1.5, -3.0])]
)
def test_what_stands_for_a_failure_can_be_chosen(failed: Any, expected: list[Any]) -> None:
    with FakeServer(too_long) as server:
        reward = Reward(server.url, failed=failed)
        assert (
            reward(["p", "p"], ["good", "bad"], completion_ids=None, answer=["a", "b"]) == expected
        )


def test_a_failure_can_end_the_run() -> None:
    with FakeServer(too_long) as server, pytest.raises(ItemsFailed, match="item 1: too-long"):
        Reward(server.url, failed="raise")(["p", "p"], ["good", "bad"])


def test_a_restart_of_the_service_costs_waiting_and_not_the_run() -> None:
    with FakeServer(too_long) as server:
        server.drop()
        server.refuse(30)  # more than the client's own retries
        assert Reward(server.url)(["p"], ["good"]) == [1.5]


def test_a_forward_that_broke_costs_waiting_and_no_reward() -> None:
    broken = [ItemError("engine-fault", "MemoryError in a batch of 2")]

    def rule(item: Item) -> float | ItemError:
        return broken.pop() if item.response == "bad" and broken else 1.5

    with FakeServer(rule) as server:
        assert Reward(server.url)(["p", "p"], ["good", "bad"]) == [1.5, 1.5]


def test_thoughts_are_not_sent_and_tools_are_refused_by_name() -> None:
    turn = {"role": "user", "content": "Why?"}
    thought = {"role": "assistant", "reasoning_content": "Hm.", "content": "So."}
    calls = {"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]}
    used = {"role": "tool", "name": "f", "content": "1"}
    with FakeServer(lambda item: float(len((item.messages or [])[-1].content))) as server:
        reward = Reward(server.url)
        assert reward([[turn]], [[thought]]) == [3.0]
        with pytest.raises(ValueError, match="tool_calls"):
            reward([[turn]], [[calls, used, thought]])
        with pytest.raises(ValueError, match="'tool'"):
            reward([[turn]], [[thought, used, thought]])


def test_a_conversation_of_several_turns_is_sent_whole() -> None:
    def last(item: Item) -> float:
        return float(len(item.messages or []))

    turn = {"role": "user", "content": "Why?", "name": None}
    answers = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    with FakeServer(last) as server:
        reward = Reward(server.url)
        assert reward([[turn]], [[*answers, {"role": "assistant", "content": "c"}]]) == [4.0]


@pytest.mark.parametrize("kind", [Reward, AsyncReward])
def test_it_pickles_used_or_not(kind: Any) -> None:
    with FakeServer(too_long) as server:
        reward = kind(server.url, model="fake", api_key="k")
        copy = pickle.loads(pickle.dumps(reward))
    assert (copy.source, copy.__name__) == (reward.source, "fake")
    assert "k" not in repr(copy.source).replace("fake", "")


def test_the_wait_share_is_of_the_time_since_the_last_answer() -> None:
    time = 0.0
    share = WaitShare(lambda: time)
    for asked, answered, expected in ((6.0, 8.0, 0.25), (8.0, 10.0, 1.0), (10.0, 10.0, 0.0)):
        time = asked
        share.ask()
        time = answered
        assert share.answer() == expected
