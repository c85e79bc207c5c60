"""A policy's responses by vLLM, which ``plaudit generate`` has with ``sampling.engine: vllm``."""

import pytest
from transformers import AutoModelForCausalLM, LlamaConfig

from training.policy.chat import Chat
from training.policy.samples import load_sampler
from training.policy.sampling import Sampling

PROMPTS = ["What is two plus two?", "Name a fruit."]


@pytest.fixture
def policy(tmp_path, tokenizer):
    """Heads of 64, which vLLM's CPU attention has."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256,
        pad_token_id=0, eos_token_id=2, initializer_range=0.2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_the_likeliest_responses_are_those_of_transformers(policy, monkeypatch, pytestconfig):
    if not pytestconfig.getoption("long"):
        pytest.skip("a minute for an engine of its own: pytest tests/vllm --long")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    chat = Chat.load(policy)
    ids = [chat.prompt([{"role": "user", "content": text}]) for text in PROMPTS]
    found = {}
    for engine in ("transformers", "vllm"):
        how = Sampling(
            engine=engine, responses=1, temperature=0, max_new_tokens=12, dtype="float32"
        )
        found[engine] = load_sampler(policy, chat, how).sample(ids, seed=7)
    assert found["vllm"] == found["transformers"]
    assert [len(responses) for responses in found["vllm"]] == [1, 1]
