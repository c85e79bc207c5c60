"""A tiny policy with a generation prompt of its own, prompts, and a tiny judge that is served."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from served_process import ServedProcess
from tiny_llama import save_language_model
from transformers import PreTrainedTokenizerFast

from training.service_process import serving

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def served(members: list[Path]) -> Iterator[ServedProcess]:
    """A real service of an ensemble of three tiny reward models. A test that kills it brings it
    back."""
    process = ServedProcess(members, "--ensemble")
    process.wait()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def policy(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A causal language model of two layers that answers bytes at random. Read only."""
    directory = tmp_path_factory.mktemp("policy")
    save_language_model(directory, tokenizer, seed=3, max_position_embeddings=512)
    (directory / "chat_template.jinja").write_text(CHATML)
    return directory


@pytest.fixture(scope="session")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 prompts of several lengths."""
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"Question {i}{' please' * (i % 4)}?"}]}
        for i in range(24)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def judge(members: list[Path]) -> Path:
    """A reward model of random weights. Read only."""
    return members[0]


@pytest.fixture(scope="session")
def service_url(judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real service of the judge in a process of its own."""
    log = tmp_path_factory.mktemp("service") / "log.txt"
    with serving(judge, log, "--dtype", "float32") as url:
        yield url
