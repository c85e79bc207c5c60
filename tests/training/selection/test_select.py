"""``plaudit select``: rows as they were, points as plain Transformers gives them, refusals."""

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import BERT
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from training.data.sources import Source, load
from training.selection.command import main
from training.selection.embedding import embed


@pytest.fixture(scope="module")
def encoder(tmp_path_factory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A BERT without a head, as a sentence encoder's directory."""
    directory = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(3)
    config = BertConfig(**BERT | {"max_position_embeddings": 256}, vocab_size=len(tokenizer))
    BertModel(config, add_pooling_layer=False).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture
def rows() -> list[dict]:
    """Sixty pairs on twenty prompts, with a column of their own."""
    return [
        {
            "note": [i, None],
            "prompt": f"{'why ' * (i % 20 // 3)}question {i % 20}?",
            "chosen": f"since {i * i}",
            "rejected": "no",
        }
        for i in range(60)
    ]


@pytest.fixture
def select(tmp_path, encoder):
    """``select(rows, *options)``: the rows that are chosen."""

    def _select(rows: list[dict], *options: str, share: float = 0.1) -> list[dict]:
        path, out = tmp_path / "pairs.jsonl", tmp_path / "chosen.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        needed = [str(path), "--out", str(out), "--share", str(share), "--encoder", str(encoder)]
        assert main([*needed, *options]) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    return _select


def radii(said: str) -> tuple[float, float]:
    found = re.search(r"cover radius ([\d.]+), of as many at random ([\d.]+) \(median of 5\)", said)
    assert found is not None
    return float(found[1]), float(found[2])


def test_rows_stay_as_they_were_and_in_their_order(select, rows, capsys):
    chosen = select(rows)
    assert len(chosen) == 6
    assert chosen == [row for row in rows if row in chosen]
    assert len({row["prompt"] for row in chosen}) == 6
    said = capsys.readouterr().out
    assert "6 of 60 pairs" in said
    own, random = radii(said)
    assert 0 < own < random


def test_a_seed_repeats_itself(select, rows):
    first, again, other = (select(rows, "--seed", seed) for seed in "001")
    assert first == again != other


def test_of_a_prompt_one_pair_until_all_prompts_are_there(select, rows, capsys):
    chosen = select(rows, share=1 / 3)
    assert len({row["prompt"] for row in chosen}) == len(chosen) == 20
    assert radii(capsys.readouterr().out)[0] == 0
    select(rows, "--text", "chosen", share=1 / 3)
    assert radii(capsys.readouterr().out)[0] > 0


def test_points_are_means_of_last_states(encoder):
    texts = ["a", "b and a longer one", "a", "x" * 200, "why?"]
    points, cut = embed(texts, encoder, max_tokens=50)
    model = AutoModel.from_pretrained(encoder, add_pooling_layer=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    for text, point in zip(texts, points, strict=True):
        ids = torch.tensor([tokenizer(text).input_ids[:50]])
        with torch.inference_mode():
            mean = model(input_ids=ids).last_hidden_state[0].mean(dim=0)
        np.testing.assert_allclose(point, mean / mean.norm(), atol=1e-6)
    assert cut == 1
    assert np.array_equal(points[0], points[2])


def test_rows_that_do_not_fit_are_reported_and_not_chosen(select, rows, capsys):
    rows[3] = rows[3] | {"chosen": rows[3]["rejected"]}
    chosen = select(rows, share=1)
    assert chosen == rows[:3] + rows[4:]
    said = capsys.readouterr()
    assert "59 of 59 pairs" in said.out
    assert "1 refused ({'chosen equals rejected': 1}; lines 4)" in said.err


def test_the_file_is_a_source_and_transcripts_stay_transcripts(tmp_path, encoder):
    path, out = tmp_path / "hh.jsonl.gz", tmp_path / "chosen.jsonl"
    asked = [f"\n\nHuman: Question {i}?\n\nAssistant: " for i in range(10)]
    rows = [{"chosen": f"{text}Yes, so.", "rejected": f"{text}No."} for text in asked]
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    options = ["--share", "0.5", "--encoder", str(encoder), "--shape", "transcript"]
    assert main([str(path), "--out", str(out), *options]) == 0
    every, chosen = (
        load(Source(name="hh", path=file, shape="transcript")).pairs for file in (path, out)
    )
    assert len(chosen) == 5
    assert all(pair in every for pair in chosen)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--share", "0"], "above 0 and at most 1"),
        (["--share", "1.5"], "above 0 and at most 1"),
        (["--share", "nan"], "above 0 and at most 1"),
        (["--share", "0.001"], "0.001 of 60 pairs is none; raise it"),
        (["--out", "chosen.json"], r"name the file \.jsonl"),
        (["--seed", "-1"], "--seed at least 0"),
        (["--max-tokens", "0"], "--max-tokens is at least 1"),
        (["--max-tokens", "300"], "reads at most 256 tokens"),
        (["--shape", "messages"], "nothing fits shape 'messages'"),
        (["--encoder", "nowhere"], "nowhere: no tokenizer"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    select, rows, tmp_path, options, said
):
    with pytest.raises(ValueError, match=said):
        select(rows, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_the_file_of_pairs_is_not_overwritten(select, rows, tmp_path):
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "pairs.jsonl")
    for name in ("pairs.jsonl", "link.jsonl"):
        with pytest.raises(ValueError, match=r"would be written over .*pairs\.jsonl"):
            select(rows, "--out", str(tmp_path / name))
    assert len((tmp_path / "pairs.jsonl").read_text().splitlines()) == 60


def test_an_encoder_without_its_tokenizer_is_refused(select, rows, tmp_path, encoder):
    bare = shutil.copytree(encoder, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ValueError, match=r"bare: no tokenizer\.json"):
        select(rows, "--encoder", str(bare))


def test_an_encoder_with_random_weights_is_refused(select, rows, tmp_path, tokenizer):
    config = BertConfig(**BERT, vocab_size=len(tokenizer))
    model = BertModel(config)
    weights = {k: v for k, v in model.state_dict().items() if "layer.1" not in k}
    model.save_pretrained(tmp_path / "half", state_dict=weights)
    tokenizer.save_pretrained(tmp_path / "half")
    with pytest.raises(ValueError, match=r"half: no weights for encoder\.layer\.1"):
        select(rows, "--encoder", str(tmp_path / "half"))
