"""A bias expert and a length head: what they take, and that they are not served."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from plaudit import checkpoint
from plaudit.reward_model import RewardModel
from plaudit.scalar_head import head
from training import backbone
from training.data.batches import PairCollator, dataset
from training.data.encoding import EncodedPair
from training.data.shapes import Pair
from training.length_bias.odin import LengthHead, correlation, length_penalty, orthogonality
from training.length_bias.product_of_experts import LengthExpert
from training.method_settings import Odin, ProductOfExperts
from training.settings import SettingsError, TrainSettings, parse
from training.train import train
from training.trainer import PairTrainer, Scorer, arguments


def test_the_bias_expert_is_a_cubic_in_log_length():
    expert = LengthExpert()
    expert.weight.data = torch.tensor([1.0, 2.0, 3.0])
    characters = torch.tensor([math.exp(6) - 1, math.exp(7) - 1, math.exp(4) - 1])
    found = expert(torch.zeros(3, 8), characters)
    assert found.tolist() == pytest.approx([0, 1 + 2 + 3, -2 + 8 - 24], abs=1e-4)


def test_correlation_is_numpys_and_finite_for_constant_scores():
    scores, lengths = torch.tensor([1.0, 4.0, 2.0, 8.0]), torch.tensor([3.0, 5.0, 1.0, 9.0])
    expected = np.corrcoef(scores, lengths)[0, 1]
    assert correlation(scores, lengths).item() == pytest.approx(expected, abs=1e-4)
    constant = torch.ones(4, requires_grad=True)
    found = correlation(constant, lengths)
    found.backward()
    assert found.item() == 0
    assert constant.grad.isfinite().all()
    assert correlation(scores, torch.ones(4)).item() == 0


def test_the_penalty_is_least_where_one_head_has_the_length_and_the_other_none():
    characters = torch.tensor([1.0, 2.0, 3.0, 4.0])
    free = torch.tensor([1.0, -1.0, -1.0, 1.0])
    assert length_penalty(free, characters, characters).item() == pytest.approx(0, abs=1e-5)
    assert length_penalty(-characters, free, characters).item() == pytest.approx(2, abs=1e-5)
    assert orthogonality(torch.tensor([1.0, 0]), torch.tensor([-2.0, 0])).item() == 1
    assert orthogonality(torch.tensor([1.0, 0]), torch.tensor([0, 3.0])).item() == 0


def rows_of_two(configure, tokenizer, tmp_path, **changes):
    """Settings, a model, and the rows of two pairs of different lengths."""
    config = configure(tmp_path, **changes)
    model = backbone.load_backbone(config, tokenizer)
    prompt = ({"role": "user", "content": "Is it so?"},)
    texts = [("Yes, it is so.", "No!"), ("Perhaps.", "Never, nowhere, and not at all.")]
    pairs = [
        EncodedPair(Pair(prompt, a, b, "s", "c"), *(tokenizer(t).input_ids for t in (a, b)))
        for a, b in texts
    ]
    return config, model, list(dataset(pairs)), [len(text) for pair in texts for text in pair]


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_pairs_are_ranked_by_the_sum_of_model_and_expert(configure, tokenizer, tmp_path):
    config, model, rows, lengths = rows_of_two(
        configure, tokenizer, tmp_path, product_of_experts=ProductOfExperts(lr=0.5)
    )
    inputs = PairCollator(model)(rows)
    assert inputs["characters"].tolist() == lengths
    expert = LengthExpert()
    expert.weight.data = torch.tensor([0.5, 0.25, -0.125])
    scorer = Scorer(model, beside=expert)
    trainer = PairTrainer(config, model=scorer, args=arguments(config))
    found = scorer(inputs["batch"], None, inputs["characters"])
    total = (found.scores + found.beside).tolist()
    expected = -(log_sigmoid(total[0] - total[1]) + log_sigmoid(total[2] - total[3])) / 2
    assert trainer.compute_loss(scorer, inputs).item() == pytest.approx(expected, abs=1e-5)


def test_odin_ranks_each_pair_by_itself_and_adds_its_terms(configure, tokenizer, tmp_path):
    config, model, rows, lengths = rows_of_two(
        configure, tokenizer, tmp_path, odin=Odin(length=0.5, orthogonal=2.0)
    )
    inputs = PairCollator(model)(rows)
    torch.manual_seed(1)
    second = LengthHead(head(model).in_features, config.odin)
    scorer = Scorer(model, beside=second)
    trainer = PairTrainer(config, model=scorer, args=arguments(config))
    found = scorer(inputs["batch"], None, inputs["characters"])
    quality, length = found.scores.tolist(), found.beside.tolist()
    total = [a + b for a, b in zip(quality, length, strict=True)]
    ranking = -(log_sigmoid(total[0] - total[1]) + log_sigmoid(total[2] - total[3])) / 2
    apart = abs(np.corrcoef(quality, lengths)[0, 1]) + 1 - np.corrcoef(length, lengths)[0, 1]
    weights = [w.detach().flatten().double().numpy() for w in (head(model).weight, second.weight)]
    crossed = abs(weights[0] @ weights[1]) / np.prod([np.linalg.norm(w) for w in weights])
    expected = ranking + 0.5 * apart + 2.0 * crossed
    assert trainer.compute_loss(scorer, inputs).item() == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "changes", [{"product_of_experts": {"lr": 0.1}}, {"odin": {}}], ids=["experts", "odin"]
)
def test_what_was_trained_beside_the_model_is_not_in_the_checkpoint(configure, tmp_path, changes):
    config = configure(tmp_path / "out", epochs=1, **changes)
    train(config)
    plain = configure(tmp_path / "plain", epochs=1)
    train(plain)
    found, other = (load_file(c.out / "model.safetensors") for c in (config, plain))
    assert found.keys() == other.keys()
    assert any((found[name] != other[name]).any() for name in found)
    manifest, _ = checkpoint.read(config.out)
    model = AutoModelForSequenceClassification.from_pretrained(config.out)
    ids = RewardModel.load(config.out).encoder.messages(manifest.probes[0].messages)
    assert model(torch.tensor([ids])).logits.item() == pytest.approx(
        manifest.probes[0].score, abs=1e-5
    )


def test_a_stopped_run_goes_on_to_the_same_weights(configure, tmp_path):
    """The expert's weights and the state of its own learning rate are in what is saved."""
    whole = configure(tmp_path / "whole", epochs=2, product_of_experts={"lr": 0.1}, save_steps=3)
    train(whole)
    stopped = whole.model_copy(update={"out": tmp_path / "stopped"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairTrainer, "training_step", stop_after(4))
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    train(stopped, resume=True)
    found, expected = (load_file(c.out / "model.safetensors") for c in (stopped, whole))
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def stop_after(steps: int):
    step, left = PairTrainer.training_step, iter(range(steps))

    def stopping(self, *arguments, **named):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    return stopping


def test_word_limits_and_whole_prompts_are_refused_together(configure, tmp_path):
    values = configure(tmp_path).model_dump() | {"word_limits": 0.5, "kwise": True}
    with pytest.raises(SettingsError, match="its own prompt"):
        parse(TrainSettings, values, "plan.yaml")


def test_both_at_once_are_refused(configure, tmp_path):
    values = configure(tmp_path).model_dump() | {"odin": {}, "product_of_experts": {}}
    with pytest.raises(SettingsError, match=r"^plan\.yaml: .*keep one"):
        parse(TrainSettings, values, "plan.yaml")
