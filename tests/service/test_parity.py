"""``plaudit parity`` compares with plain Transformers, and fails when it should."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from plaudit import flex, int8, siblings
from plaudit.checkpoint import CheckpointError
from plaudit.conversation import Encoder
from plaudit.probes import conversations
from service import parity
from service.parity import main
from service.parity_data import ParityError
from service.parity_report import DETERMINISTIC


def report_of(path: Path) -> dict:
    return json.loads(path.read_text())


def row_of(report: dict, name: str, dtype: str) -> dict:
    (found,) = [r for r in report["rows"] if (r["name"], r["dtype"]) == (name, dtype)]
    return found


def test_a_sound_model_passes_and_says_what_was_compared(
    tmp_path, tiny_checkpoint, pairs_file, capsys
):
    out = tmp_path / "parity.json"
    command = [str(tiny_checkpoint), "--data", str(pairs_file), "--pairs", "20", "--device", "cpu"]
    assert main([*command, "--json", str(out)]) == 0
    report = report_of(out)
    assert (report["pairs"], report["sequences"]) == (20, len(conversations()) + 40)
    assert report["failures"] == []
    exact = row_of(report, "torch", "float32")
    assert exact["largest_difference"] <= 1e-5
    assert exact["neighbours"] <= 1e-5
    assert exact["flips"] == 0
    assert row_of(report, DETERMINISTIC, "bfloat16")["neighbours"] == 0
    assert row_of(report, DETERMINISTIC, "float32")["largest_difference"] <= 1e-5
    rough = row_of(report, "torch", "bfloat16")
    assert 1e-5 < rough["largest_difference"] < 0.25
    shown = capsys.readouterr().out
    assert "| torch | float32 |" in shown
    assert "| transformers | bfloat16 |" in shown


def test_without_data_each_two_of_the_probes_are_judged(tmp_path, tiny_checkpoint, capsys):
    out = tmp_path / "parity.json"
    assert main([str(tiny_checkpoint), "--device", "cpu", "--json", str(out)]) == 0
    report = report_of(out)
    assert (report["sequences"], report["pairs"]) == (32, 32 * 31 // 2)
    assert 400 < report["strong_pairs"] <= 496
    assert row_of(report, "torch", "bfloat16")["strong_flips"] == 0
    shown = capsys.readouterr().out
    assert f"496 pairs, of which {report['strong_pairs']} are further apart than 0.05" in shown


@pytest.fixture
def loud(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    """The tiny model with a head a thousand times as large: what bf16 rounds off, a few hundredths
    of a score, is then worth tens, and turns pairs whose scores are units apart."""
    directory = tmp_path / "loud"
    shutil.copytree(tiny_checkpoint, directory)
    (directory / "reward.json").unlink()  # it promises the scores of the other head
    model = AutoModelForSequenceClassification.from_pretrained(directory)
    with torch.no_grad():
        model.score.weight *= 1000
    model.save_pretrained(directory)
    return directory


def test_a_model_whose_probes_change_their_order_in_bf16_fails(tmp_path, loud, capsys):
    """Its fp32 scores are right, up to their size, and every score is finite."""
    out = tmp_path / "parity.json"
    command = [str(loud), "--device", "cpu", "--tolerance", "0.01"]
    assert main([*command, "--json", str(out)]) == 1
    report = report_of(out)
    assert row_of(report, "torch", "float32")["strong_flips"] == 0
    lost = row_of(report, "torch", "bfloat16")["strong_flips"]
    assert lost > 0
    error = capsys.readouterr().err
    assert f"torch bfloat16: {lost} pairs with a margin over 0.05 lose their order" in error
    assert "float32" not in error
    assert main([*command, "--margin", "500"]) == 0


def test_where_no_order_could_be_lost_it_says_so(tiny_checkpoint, capsys):
    assert main([str(tiny_checkpoint), "--device", "cpu", "--margin", "100"]) == 0
    assert "no pair is further apart than 100" in capsys.readouterr().err


def test_each_two_responses_of_a_list_are_a_pair(tmp_path, tiny_checkpoint):
    """Lists of texts, and of objects with a text; what else they say of them is left alone."""
    data, out = tmp_path / "lists.jsonl", tmp_path / "parity.json"
    prompt = [{"role": "user", "content": "How do I boil an egg?"}]
    texts = ["In water.", "Eight minutes in boiling water.", "Ask someone else."]
    rows = [
        {"prompt": prompt, "responses": texts, "better": [[1, 2]]},
        {
            "prompt": prompt,
            "reference": {"generator": "one", "text": "Boil it."},
            "responses": [{"text": text, "win_probability": 0.5} for text in [*texts, "No."]],
        },
        {"prompt": prompt, "chosen": texts[1], "rejected": texts[2]},
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [str(tiny_checkpoint), "--device", "cpu", "--data", str(data), "--json", str(out)]
    assert main(command) == 0
    report = report_of(out)
    assert (report["pairs"], report["sequences"]) == (3 + 6 + 1, 32 + 3 + 4 + 2)


@pytest.mark.parametrize("row", [{}, {"chosen": "Yes."}, {"responses": ["Yes."]}])
def test_a_row_without_two_responses_is_named(tmp_path, tiny_checkpoint, row):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"prompt": [{"role": "user", "content": "Is it?"}], **row}))
    with pytest.raises(
        ParityError,
        match=r"rows\.jsonl:1: needs chosen and rejected, or two responses or more",
    ):
        main([str(tiny_checkpoint), "--device", "cpu", "--data", str(data)])


def test_the_reference_is_transformers_itself(tmp_path, tiny_checkpoint):
    """The bf16 row of Transformers holds the difference that two plain runs have."""
    out = tmp_path / "parity.json"
    assert main([str(tiny_checkpoint), "--device", "cpu", "--json", str(out)]) == 0
    encoder = Encoder.load(tiny_checkpoint, 512)
    sequences = [encoder.messages(m) for m in conversations()]
    runs = []
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForSequenceClassification.from_pretrained(tiny_checkpoint, dtype=dtype)
        with torch.inference_mode():
            runs.append(torch.cat([model(torch.tensor([s])).logits[:, 0] for s in sequences]))
    expected = (runs[0] - runs[1].float()).abs().max().item()
    assert row_of(report_of(out), "transformers", "bfloat16")[
        "largest_difference"
    ] == pytest.approx(expected, rel=1e-3)


def test_an_attention_that_forgets_the_prompt_fails(tiny_checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(siblings, "above", lambda packed, parent: [])
    assert main([str(tiny_checkpoint), "--device", "cpu"]) == 1
    assert "torch float32: a score is off by" in capsys.readouterr().err


def test_a_tighter_tolerance_than_rounding_fails(tiny_checkpoint):
    assert main([str(tiny_checkpoint), "--device", "cpu", "--tolerance", "0"]) == 1


def test_compressed_data_is_read_and_a_bad_line_is_named(tmp_path, tiny_checkpoint, pairs_file):
    packed = tmp_path / "pairs.jsonl.gz"
    packed.write_bytes(gzip.compress(pairs_file.read_bytes() + b'{"prompt": "no turns"}\n'))
    command = [str(tiny_checkpoint), "--device", "cpu", "--data", str(packed), "--pairs"]
    assert main([*command, "5"]) == 0
    with pytest.raises(ParityError, match=r"pairs\.jsonl\.gz:61: Expected `array`"):
        main([*command, "100"])
    with pytest.raises(ParityError, match="no such file"):
        main([str(tiny_checkpoint), "--data", str(tmp_path / "none")])


def test_int8_weights_are_compared_on_request(tmp_path, tiny_checkpoint, pairs_file, capsys):
    out = tmp_path / "parity.json"
    command = [str(tiny_checkpoint), "--data", str(pairs_file), "--pairs", "20", "--device", "cpu"]
    assert main([*command, "--int8", "--json", str(out)]) == 0
    report = report_of(out)
    assert row_of(report, "torch", "int8")["largest_difference"] < 0.25
    assert row_of(report, DETERMINISTIC, "int8")["neighbours"] == 0
    assert "| torch | int8 |" in capsys.readouterr().out


@torch.compiler.set_stance("force_eager")
@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_is_compared_on_request(tmp_path, tiny_checkpoint, pairs_file, capsys):
    out = tmp_path / "parity.json"
    command = [str(tiny_checkpoint), "--data", str(pairs_file), "--pairs", "5", "--device", "cpu"]
    assert main([*command, "--flex", "--json", str(out)]) == 0
    flex, products = (row_of(report_of(out), name, "float32") for name in ("torch, flex", "torch"))
    assert 0 < flex["largest_difference"] < 1e-5
    assert flex["largest_difference"] != products["largest_difference"]
    assert "| torch, flex | bfloat16 |" in capsys.readouterr().out


@torch.compiler.set_stance("force_eager")
@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_that_sees_too_much_fails(tiny_checkpoint, pairs_file, monkeypatch, capsys):
    monkeypatch.setattr(flex, "sees", lambda *_: lambda _b, _h, query, _k: query >= 0)
    command = [str(tiny_checkpoint), "--data", str(pairs_file), "--pairs", "5", "--device", "cpu"]
    assert main([*command, "--flex"]) == 1
    assert "torch, flex float32: a score is off by" in capsys.readouterr().err


def test_int8_weights_that_are_wrong_fail(tiny_checkpoint, pairs_file, monkeypatch, capsys):
    sound = int8.rounded
    monkeypatch.setattr(int8, "rounded", lambda rows: (sound(rows)[0], -sound(rows)[1]))
    assert main([str(tiny_checkpoint), "--data", str(pairs_file), "--device", "cpu", "--int8"]) == 1
    error = capsys.readouterr().err
    assert "torch int8: " in error
    assert "bfloat16" not in error


def test_int8_of_a_model_that_cannot_hold_it_is_refused_before_anything_is_scored(
    tiny_checkpoint, monkeypatch
):
    monkeypatch.setattr(int8, "ARCHITECTURES", frozenset({"qwen2"}))
    monkeypatch.setattr(parity, "plain", lambda *_: pytest.fail("scored"))
    with pytest.raises(CheckpointError, match=r"int8 weights are proven for qwen2 .* not for this"):
        main([str(tiny_checkpoint), "--int8", "--device", "cpu"])
