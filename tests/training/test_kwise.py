"""All comparisons of a prompt as one element of a batch (InstructGPT, arXiv:2203.02155)."""

import json
import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from architectures import BERT
from torch.nn.functional import logsigmoid
from transformers import BertConfig, BertForSequenceClassification

from plaudit.conversation import Encoder
from training import backbone, losses
from training.data.batches import Judged, PairCollator, dataset
from training.data.encoding import encode
from training.data.shapes import Pair
from training.data.sources import Source, load
from training.train import train
from training.trainer import PairTrainer, Scorer, arguments

ANSWERS = ["Yes.", "Perhaps so.", "No, not at all.", "Ask me again tomorrow.", "Hm"]


def pairs_of(question: str, better: list[tuple[int, int]]) -> list[Pair]:
    prompt = ({"role": "user", "content": question},)
    return [Pair(prompt, ANSWERS[a], ANSWERS[b], "s", "c") for a, b in better]


def rows_of(pairs, tokenizer, kwise):
    encoded, _ = encode(pairs, Encoder(tokenizer, len(tokenizer), 128), None)
    return list(dataset(encoded, kwise))


def loss_of(scores, rows):
    judged = Judged.of(rows, scores.device)
    costs = losses.bradley_terry(scores[judged.chosen], scores[judged.rejected])
    return losses.mean_over_prompts(costs, judged.prompt)


@pytest.mark.parametrize("responses", [2, 3, 5])
def test_the_gradient_is_the_mean_of_the_pairs_gradients(tokenizer, responses):
    better = list(combinations(range(responses), 2))
    (row,) = rows_of(pairs_of("Is it so?", better), tokenizer, kwise=True)
    torch.manual_seed(0)
    states = torch.randn(responses, 16, dtype=torch.float64)
    weight = torch.randn(16, dtype=torch.float64, requires_grad=True)
    # A scorer that is not linear in its weight: pairs' gradients differ with the scores.
    (found,) = torch.autograd.grad(loss_of(torch.tanh(states * weight).sum(1), [row]), weight)
    expected = torch.zeros_like(weight)
    for winner, loser in better:
        scores = torch.tanh(states[[winner, loser]] * weight).sum(1)
        (one,) = torch.autograd.grad(-logsigmoid(scores[0] - scores[1]), weight)
        expected += one / len(better)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_model_runs_once_for_each_response_and_learns_as_from_its_pairs(
    configure, tokenizer, tmp_path
):
    model = backbone.load_backbone(configure(tmp_path), tokenizer)
    pairs = pairs_of("Is it so?", list(combinations(range(4), 2)))
    (row,) = rows_of(pairs, tokenizer, kwise=True)
    assert len(row["sequences"]) == 4  # not 6 pairs of 2
    together, apart = (
        gradients(model, rows_of(pairs, tokenizer, kwise)) for kwise in (True, False)
    )
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, apart[name], rtol=1e-4, atol=1e-6)


def gradients(model, rows):
    inputs = PairCollator(model)(rows)
    loss_of(Scorer(model)(inputs["batch"]).scores, rows).backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def test_prompts_weigh_the_same_whatever_their_number_of_pairs(tokenizer):
    many = pairs_of("Many?", list(combinations(range(4), 2)))
    one = pairs_of("One?", [(0, 4)])
    rows = rows_of(many + one, tokenizer, kwise=True)
    assert [len(row["better"]) for row in rows] == [6, 1]
    scores = torch.tensor([0.0] * 4 + [3.0, 0.0])
    tie, won = (-logsigmoid(torch.tensor(d)).item() for d in (0.0, 3.0))
    assert loss_of(scores, rows).item() == pytest.approx((tie + won) / 2)


def test_a_cycle_does_not_crash_and_a_tie_contributes_nothing(tokenizer, tmp_path):
    # The fourth response ties with all others: no comparison holds it.
    path = tmp_path / "lists.jsonl"
    better = [[0, 1], [1, 2], [2, 0]]
    path.write_text(json.dumps({"prompt": "Round?", "responses": ANSWERS[:4], "better": better}))
    pairs = load(Source(name="s", path=path, shape="lists")).pairs
    (row,) = rows_of(pairs, tokenizer, kwise=True)
    scores = torch.zeros(len(row["sequences"]), requires_grad=True)
    loss_of(scores, [row]).backward()
    assert scores.grad.tolist() == pytest.approx([0.0] * 3)


def test_an_encoder_too_runs_once_for_each_response(tokenizer):
    model = BertForSequenceClassification(
        BertConfig(**BERT, vocab_size=len(tokenizer), num_labels=1)
    )
    rows = rows_of(pairs_of("Is it so?", list(combinations(range(4), 2))), tokenizer, kwise=True)
    assert len(PairCollator(model)(rows)["batch"].ids) == 4


def test_the_trainer_hears_what_is_known_of_each_label(configure, tokenizer, tmp_path):
    config = configure(tmp_path, label_smoothing=0.1, centring=0.5)
    model = backbone.load_backbone(config, tokenizer)
    (pair,) = pairs_of("Is it so?", [(0, 1)])
    known = [replace(pair, target_margin=0.5), replace(pair, soft_label=0.75)]
    rows = rows_of(known, tokenizer, kwise=False)
    inputs = PairCollator(model)(rows)
    trainer = PairTrainer(config, model=Scorer(model), args=arguments(config))
    chosen, rejected = Scorer(model)(inputs["batch"]).scores.tolist()[:2]
    lead, centre = chosen - rejected, 0.5 * (chosen + rejected) ** 2
    first = -0.9 * log_sigmoid(lead - 0.5) - 0.1 * log_sigmoid(0.5 - lead)
    flipped = 0.25 * 0.9 + 0.75 * 0.1
    second = -(1 - flipped) * log_sigmoid(lead) - flipped * log_sigmoid(-lead)
    found = trainer.compute_loss(trainer.model, inputs)
    assert found.item() == pytest.approx((first + second) / 2 + centre, abs=1e-5)


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def test_prompts_are_what_a_step_counts(configure, tmp_path):
    # 80 pairs on 40 prompts; the steps are those of the prompts on the train side.
    config = configure(tmp_path / "kwise", kwise=True, epochs=1, batch_pairs=1, save_steps=1)
    train(config)
    plain = configure(tmp_path / "plain", epochs=1, batch_pairs=1, save_steps=1)
    train(plain)
    steps, twice = (
        max(int(p.name.split("-")[1]) for p in (c.out / "trainer").glob("checkpoint-*"))
        for c in (config, plain)
    )
    assert twice == 2 * steps > 0
