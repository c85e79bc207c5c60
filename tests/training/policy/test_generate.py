"""Responses of a policy: what is sampled, what is kept of a run that was broken off."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.data.jsonlines import DataError
from training.policy import candidates, samples
from training.policy.chat import Chat
from training.policy.generate import GenerateSettings, generate, main
from training.policy.sampling import Sampling, TransformersSampler
from training.settings import SettingsError, parse

GREEDY = {"responses": 1, "temperature": 0.0, "max_new_tokens": 24, "dtype": "float32"}


@pytest.fixture
def settings(policy, questions, tmp_path):
    """``settings(**changes)`` of a short sampling in fp32."""

    def make(out: str = "out.jsonl", **sampling: object) -> GenerateSettings:
        values = {"responses": 3, "max_new_tokens": 12, "batch_tokens": 400, "dtype": "float32"}
        return GenerateSettings(
            model=str(policy),
            out=tmp_path / out,
            prompts={"path": questions},
            sampling=values | sampling,
        )

    return make


def greedy_alone(policy: Path, text: str, ends: set[int], limit: int) -> list[int]:
    """The likeliest tokens, one prompt at a time, without cache or padding."""
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(policy)
    ids = tokenizer(text, add_special_tokens=False).input_ids
    made: list[int] = []
    with torch.inference_mode():
        while len(made) < limit and not (made and made[-1] in ends):
            logits = model(torch.tensor([ids + made])).logits[0, -1]
            made.append(int(logits.argmax()))
    return made


def test_greedy_responses_are_those_of_one_prompt_at_a_time(settings, policy):
    found = generate(settings(**GREEDY))
    tokenizer = AutoTokenizer.from_pretrained(policy)
    assert len({len(one.prompt[0]["content"]) for one in found}) > 1
    for one in found[:8]:
        text = f"<|im_start|>user\n{one.prompt[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
        expected = greedy_alone(policy, text, {2}, 24)
        assert one.responses == (tokenizer.decode(expected, skip_special_tokens=True),)
        assert one.finished == (expected[-1] == 2,)


def test_rows_are_in_the_order_of_the_prompts_and_say_what_was_cut(settings, questions):
    config = settings(max_new_tokens=60, seed=5)
    found = generate(config)
    asked = [json.loads(line)["prompt"] for line in questions.read_text().splitlines()]
    assert [list(one.prompt) for one in found] == asked
    assert {len(one.responses) for one in found} == {3}
    assert {one.sources for one in found} == {("policy",) * 3}
    assert {ended for one in found for ended in one.finished} == {True, False}
    assert candidates.read(config.out) == found
    assert not samples.partial_of(config.out).exists()


class Broken(Exception):
    """Stands for a kill."""


@pytest.fixture
def break_after(monkeypatch):
    """``break_after(n)``: the nth batch from now on is not sampled any more."""
    real = TransformersSampler.sample
    left = [10**9]

    def sample(self, prompts, seed):
        if left[0] == 0:
            raise Broken
        left[0] -= 1
        return real(self, prompts, seed)

    monkeypatch.setattr(TransformersSampler, "sample", sample)
    return lambda count: left.__setitem__(0, count)


def test_a_broken_run_goes_on_to_the_rows_of_a_whole_one(settings, break_after):
    whole = generate(settings("whole.jsonl"))
    config = settings("broken.jsonl")
    break_after(2)
    with pytest.raises(Broken):
        generate(config)
    partial = samples.partial_of(config.out)
    done = partial.read_text().splitlines()
    assert 0 < len(done) < len(whole)
    # The next row was being written, and one of its batch is not there yet.
    partial.write_text("".join(line + "\n" for line in done[:-1]) + '{"prompt": [{"ro')
    break_after(10**9)
    assert generate(config) == whole
    assert not config.out.with_name("broken.partial.jsonl").exists()


def test_a_file_of_other_settings_is_refused(settings):
    generate(settings())
    assert generate(settings()) == candidates.read(settings().out)
    with pytest.raises(SettingsError, match="of another run"):
        generate(settings(seed=1))


def test_the_command_reads_settings_and_overrides(policy, questions, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    given = [f"model={policy}", f"prompts.path={questions}", "prompts.max_prompts=2"]
    assert main([*given, f"out={out}", "sampling.max_new_tokens=4", "sampling.responses=2"]) == 0
    assert "2 prompts, 4 responses" in capsys.readouterr().out
    with pytest.raises(SettingsError, match="temperature 0 gives the same response again"):
        parse(Sampling, {"temperature": 0}, "")
    with pytest.raises(DataError, match="name the file"):
        main([*given, "out=out.txt"])


def test_a_response_is_told_from_its_prompt(policy):
    chat = Chat.load(str(policy))
    turns = [{"role": "user", "content": "Hi"}]
    tokenizer = AutoTokenizer.from_pretrained(policy)
    # What the template writes behind the end of the response is not of it.
    assert tokenizer.decode(chat.response(turns, "Hello")) == "Hello<|im_end|>"
    assert tokenizer.decode(chat.prompt(turns)).endswith("<|im_start|>assistant\n")
    chat.tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(SettingsError, match="cannot be told from its prompt"):
        chat.response(turns, "Hello")
    chat.tokenizer.chat_template = None
