"""Scores and gradients against plain Transformers, one sequence at a time, fp32."""

import shutil
from copy import deepcopy

import pytest
import torch
from architectures import PACKED, PADDED, SEQUENCES, build, one_at_a_time
from torch.nn.functional import logsigmoid
from transformers import (
    LlamaForCausalLM,
)

from plaudit.batch import PackedBatch, PaddedBatch, batch_for, can_pack
from plaudit.by_rows import run_by_rows
from plaudit.checkpoint import CheckpointError
from plaudit.forward import scores
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel, load_classifier, say_padded
from plaudit.scalar_head import head, keep_head_fp32


def pair_loss(found: torch.Tensor) -> torch.Tensor:
    return -logsigmoid(found[::2] - found[1::2]).mean()


def assert_same_scores_and_gradients(config, batch_kind: type) -> None:
    plain, ours = build(config), build(config)
    batch = batch_for(ours, SEQUENCES)
    assert isinstance(batch, batch_kind)
    expected, found = one_at_a_time(plain), scores(ours, batch)
    assert expected.std() > 0.05  # equality of constants would say nothing
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)

    pair_loss(expected).backward()
    pair_loss(found).backward()
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert gradients
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                gradients[name], parameter.grad, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n} {m}"
            )


@pytest.mark.parametrize("name", PACKED)
def test_packed_scores_and_gradients_equal_plain_transformers(name):
    assert_same_scores_and_gradients(PACKED[name], PackedBatch)


@pytest.mark.parametrize("name", PACKED)
def test_packed_scores_without_gradients_equal_plain_transformers(name):
    """Scoring alone takes another attention than training."""
    plain, ours = build(PACKED[name]), build(PACKED[name])
    with torch.inference_mode():
        expected, found = one_at_a_time(plain), scores(ours, batch_for(ours, SEQUENCES))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PACKED)
def test_a_few_rows_at_a_time_score_as_all_at_once(name, monkeypatch):
    plain, ours = build(PACKED[name]), build(PACKED[name])
    sizes = []
    for module in (m for n, m in ours.base_model.named_modules() if n.endswith("mlp")):
        inner = module.forward
        module.forward = lambda x, inner=inner: sizes.append(x.shape[1]) or inner(x)
    run_by_rows(ours)
    monkeypatch.setattr("plaudit.by_rows.ROWS", 7)
    with torch.inference_mode():
        expected, found = one_at_a_time(plain), scores(ours, batch_for(ours, SEQUENCES))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert max(sizes) == 7


@pytest.mark.parametrize("name", PACKED)
def test_scores_behind_known_prefixes_equal_plain_transformers(name):
    """One call after another; most find a part of their sequences known, up to the last token."""
    plain, ours = build(PACKED[name]), build(PACKED[name])
    prefixes = PrefixCache(2**20)
    calls = [[0, 4], [5, 1], [2, 3, 6, 7], [5], [8], [9, 11, 10], [0, 1, 2, 3, 4, 5]]
    held = []
    with torch.inference_mode():
        expected = one_at_a_time(plain)
        for call in calls:
            recalled = prefixes.recall("model", [SEQUENCES[i] for i in call], 512, ours.device)
            batch = PackedBatch.planned(recalled.packed, ours.device, recalled.memory)
            torch.testing.assert_close(scores(ours, batch), expected[call], rtol=0, atol=1e-5)
            prefixes.keep(recalled)
            held.append(recalled.packed.held)
    # At last: the prompt of 0 to 3 with 12 tokens of 2, the 22 common to 4 and 5 with 10 of each.
    assert held == [0, 16 + 16, 16, 32, 0, 16, 16 + 4 + 12 + 22 + 10 + 10]


@pytest.mark.parametrize("name", PADDED)
def test_padded_scores_and_gradients_equal_plain_transformers(name):
    assert_same_scores_and_gradients(PADDED[name], PaddedBatch)


def test_only_proven_models_are_packed():
    assert all(can_pack(build(config)) for config in PACKED.values())
    assert not any(can_pack(build(config)) for config in PADDED.values())


def test_a_decoder_that_is_not_proven_says_once_that_it_is_padded(tiny_checkpoint, caplog):
    whole = RewardModel.load(tiny_checkpoint, device="cpu")
    say_padded.cache_clear()
    for name in ("olmo2", "olmo2", "bert", "llama"):
        model = build((PADDED | PACKED)[name])
        RewardModel(model, whole.encoder, whole.manifest, whole.revision)
    assert [r.getMessage().split()[0] for r in caplog.records] == ["olmo2"]


def test_packing_computes_a_shared_prompt_once(tiny_checkpoint):
    model = RewardModel.load(tiny_checkpoint, device="cpu")
    prompt = list(range(3, 53))
    group = [[*prompt, 60 + i] for i in range(8)]
    assert model.packs
    batch = batch_for(model.classifier, group)
    assert (batch.tokens, batch.padding) == (50 + 8, 0)


def test_a_batch_of_one_scores_as_a_batch_of_many(tiny_checkpoint):
    model = RewardModel.load(tiny_checkpoint, device="cpu")
    many = model.score(SEQUENCES)
    alone = [float(model.score([s])[0]) for s in SEQUENCES]
    assert many == pytest.approx(alone, abs=1e-5)


def test_the_token_budget_changes_no_score_and_no_order(tiny_checkpoint):
    model = RewardModel.load(tiny_checkpoint, device="cpu")
    assert model.score_all(SEQUENCES, 40) == pytest.approx(model.score(SEQUENCES), abs=1e-5)


def test_a_head_that_is_not_in_the_file_is_refused(tmp_path, tokenizer):
    LlamaForCausalLM(deepcopy(PACKED["llama"])).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"score\.weight.*would be random"):
        RewardModel.load(tmp_path, device="cpu")


def test_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such directory"):
        RewardModel.load(tmp_path / "none")


def test_a_plain_model_has_a_revision_and_no_probes(tmp_path, tiny_checkpoint):
    plain = shutil.copytree(tiny_checkpoint, tmp_path / "plain")
    (plain / "reward.json").unlink()
    model = RewardModel.load(plain, device="cpu", max_tokens=100)
    assert model.manifest.kind == "plain"
    assert model.manifest.probes == ()
    assert model.manifest.max_tokens == 100
    assert model.revision == RewardModel.load(plain, device="cpu", max_tokens=100).revision
    whole = RewardModel.load(tiny_checkpoint, device="cpu")
    assert model.score(SEQUENCES) == pytest.approx(whole.score(SEQUENCES), abs=1e-6)


def test_a_bf16_body_keeps_an_fp32_head(tiny_checkpoint):
    model = load_classifier(tiny_checkpoint, torch.bfloat16).eval()
    keep_head_fp32(model, tiny_checkpoint)
    assert head(model).weight.dtype == torch.float32
    assert next(model.base_model.parameters()).dtype == torch.bfloat16
    exact = load_classifier(tiny_checkpoint, torch.float32).eval()
    with torch.inference_mode():
        found, expected = (scores(m, batch_for(m, SEQUENCES)) for m in (model, exact))
    assert found.dtype == torch.float32
    # Not rounded to bf16 at the end, where scores that differ by little would tie.
    assert not torch.equal(found, found.bfloat16().float())
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.25)


def test_loading_in_bf16_does_not_round_the_head(tiny_checkpoint):
    exact, quick = (RewardModel.load(tiny_checkpoint, dtype=d) for d in ("float32", "bfloat16"))
    assert torch.equal(head(exact.classifier).weight, head(quick.classifier).weight)
