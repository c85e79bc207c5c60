"""Contrastive terms by hand, at their limits, and by what they pull."""

import math

import pytest
import torch
from architectures import BERT
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from short_runs import history, interrupted_after_first_state, same, weights
from transformers import BertConfig, BertModel

from plaudit import checkpoint
from plaudit.conversation import Encoder
from training import backbone, losses
from training.contrastive import Contrast, signed_differences, simcse, sinkhorn, swav
from training.data.batches import Judged, PairCollator, dataset, first_places
from training.data.encoding import encode
from training.data.shapes import Pair
from training.method_settings import ContrastiveSettings, Lora
from training.settings import EnsemblePlan, MemberSettings, SettingsError, parse
from training.train import train
from training.trainer import PairTrainer, Scorer, arguments

AXES = torch.eye(3)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_simcse_of_two_vectors_by_hand():
    # Cosines 0.6 and 0.8 to the own and the other view, at temperature 1/2.
    first = torch.tensor([[2.0, 0.0]])
    second = torch.tensor([[3.0, 4.0], [8.0, 6.0]])
    found = simcse(first.expand(2, 2), second, 0.5)
    total = math.exp(1.2) + math.exp(1.6)
    assert found.tolist() == pytest.approx([math.log(total) - 1.2, math.log(total) - 1.6])


def test_identical_views_of_orthogonal_vectors_are_the_floor():
    # -log(e^(1/t) / (e^(1/t) + 2)): nothing that dropout could change is left to learn.
    floor = math.log(1 + 2 * math.exp(-2))
    assert simcse(AXES, 7 * AXES, 0.5).tolist() == pytest.approx([floor] * 3)


def test_views_that_have_nothing_in_common_are_told_apart_by_chance():
    found = simcse(AXES[:1].expand(3, 3), AXES[1:2].expand(3, 3), 0.05)
    assert found.tolist() == pytest.approx([math.log(3)] * 3)


def test_a_vector_alone_costs_nothing():
    assert simcse(AXES[:1], AXES[1:2], 0.05).tolist() == [0.0]


def test_simcse_pulls_a_vector_to_its_other_view_and_from_the_rest():
    first = torch.tensor([[1.0, 1.0, 1.0]], requires_grad=True)
    simcse(first.expand(3, 3), AXES, 1.0)[0].backward()
    own, *others = first.grad[0].tolist()
    assert own < 0 < min(others)


def test_swav_of_one_vector_by_hand():
    # One vector: two rounds over it alone make its code uniform, whatever its prototypes.
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
    prototypes = torch.tensor([[5.0, 0.0], [0.0, 2.0]])
    found = swav(first, second, prototypes, 0.5).item()
    log_first = [2.0 - math.log(math.exp(2) + 1), -math.log(math.exp(2) + 1)]
    total = math.log(math.exp(1.2) + math.exp(1.6))
    log_second = [1.2 - total, 1.6 - total]
    assert found == pytest.approx(-(sum(log_first) + sum(log_second)) / 2)


def test_sinkhorn_of_two_vectors_by_hand():
    # Weights e^(l/.05) in rows: [4, 1] and [1, 1]. Columns to one: [4/5, 1/2], [1/5, 1/2]; rows to
    # one: [8/13, 5/13], [2/7, 5/7].
    likeness = 0.05 * torch.log(torch.tensor([[4.0, 1.0], [1.0, 1.0]]))
    found = sinkhorn(likeness, rounds=1)
    assert found.flatten().tolist() == pytest.approx([8 / 13, 5 / 13, 2 / 7, 5 / 7])


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 10))
def test_sinkhorn_shares_the_vectors_among_the_prototypes(vectors, prototypes, seed):
    likeness = 0.2 * random(vectors, prototypes, seed=seed).clamp(-1, 1)
    codes = sinkhorn(likeness, rounds=300)
    assert codes.sum(1).tolist() == pytest.approx([1.0] * vectors)
    assert codes.sum(0).tolist() == pytest.approx([vectors / prototypes] * prototypes, rel=1e-2)
    assert sinkhorn(likeness).sum(1).tolist() == pytest.approx([1.0] * vectors)


def test_codes_of_vectors_on_their_prototypes_choose_them():
    torch.testing.assert_close(sinkhorn(AXES), AXES, atol=1e-6, rtol=0)
    floor = 2 * math.log(1 + 2 * math.exp(-2))  # each view predicts the other's
    assert swav(AXES, AXES, 9 * AXES, 0.5).tolist() == pytest.approx([floor] * 3)


def test_extreme_likenesses_do_not_overflow():
    assert sinkhorn(torch.tensor([[1e4, -1e4], [1e4, 1e4]])).isfinite().all()


def test_codes_are_targets_without_a_gradient():
    """At equal views the gradient is that of the cross-entropy to fixed codes."""
    prototypes, base = random(4, 6, seed=1), random(5, 6)
    vectors = base.clone().requires_grad_()
    swav(vectors, vectors, prototypes, 0.1).sum().backward()
    fixed = base.clone().requires_grad_()
    likeness = torch.cosine_similarity(fixed[:, None], prototypes[None], dim=2)
    codes = sinkhorn(likeness.detach())
    expected = torch.nn.functional.cross_entropy(likeness / 0.1, codes, reduction="sum")
    (2 * expected).backward()
    torch.testing.assert_close(vectors.grad, fixed.grad)
    assert not torch.equal(vectors.grad, torch.zeros_like(base))


def test_swav_moves_the_prototypes_too():
    prototypes = random(4, 6, seed=1).requires_grad_()
    swav(random(5, 6), random(5, 6, seed=2), prototypes, 0.1).mean().backward()
    assert prototypes.grad.abs().min() > 0


def test_lengths_do_not_matter():
    first, second, prototypes = random(5, 6), random(5, 6, seed=1), random(4, 6, seed=2)
    for term in (
        lambda a, b, c: simcse(a, b, 0.1),
        lambda a, b, c: swav(a, b, c, 0.1),
    ):
        found, expected = (
            term(3 * first, 0.1 * second, 8 * prototypes),
            term(first, second, prototypes),
        )
        torch.testing.assert_close(found, expected)


def test_differences_come_in_both_signs():
    states = torch.tensor([[1.0, 2.0], [4.0, 4.0], [0.0, 1.0]])
    found = signed_differences(states, torch.tensor([0, 1]), torch.tensor([1, 2]))
    assert found.tolist() == [[-3, -2], [4, 3], [3, 2], [-4, -3]]


def term(**values) -> ContrastiveSettings:
    return ContrastiveSettings(**values)


def judged_of(*better: tuple[int, int], sequences: int) -> Judged:
    row = {"sequences": [[0]] * sequences, "better": better}
    known = {"target_margin": [0.0] * len(better), "soft_label": [1.0] * len(better)}
    return Judged.of([row | known], torch.device("cpu"))


def test_a_response_that_stands_twice_is_no_other_than_itself():
    first, second = random(4, 6), random(4, 6, seed=1)
    first[2], second[2] = first[0], second[0]
    judged = judged_of((0, 1), (2, 3), sequences=4)
    place = torch.tensor(first_places([[5], [6], [5], [7]]))
    found = Contrast(term(kind="simcse"), 6, seed=0)(first, second, judged, place)
    kept = [0, 1, 3]
    assert found.item() == pytest.approx(simcse(first[kept], second[kept], 0.05).mean().item())


def test_a_difference_that_stands_twice_or_turned_round_counts_once():
    first, second = random(3, 6), random(3, 6, seed=1)
    settings = term(kind="simcse", of="differences", weight=0.25)
    found = Contrast(settings, 6, seed=0)(
        first, second, judged_of((0, 1), (1, 0), (2, 1), sequences=3), torch.arange(3)
    )
    views = [
        torch.stack([v[0] - v[1], v[1] - v[2], v[1] - v[0], v[2] - v[1]]) for v in (first, second)
    ]
    assert found.item() == pytest.approx(0.25 * simcse(*views, 0.05).mean().item())


def test_swav_of_differences_uses_its_prototypes():
    first, second = random(2, 6), random(2, 6, seed=1)
    contrast = Contrast(term(kind="swav", of="differences", prototypes=4), 6, seed=3)
    found = contrast(first, second, judged_of((0, 1), sequences=2), torch.arange(2))
    views = [torch.stack([v[0] - v[1], v[1] - v[0]]) for v in (first, second)]
    expected = 0.5 * swav(*views, contrast.prototypes, 0.1).mean().item()
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "filled"),
    [
        ({"kind": "simcse"}, ("responses", 1.0, 0.05, None)),
        ({"kind": "simcse", "of": "differences"}, ("differences", 1.0, 0.05, None)),
        ({"kind": "swav"}, ("responses", 0.1, 0.1, 50)),
        ({"kind": "swav", "of": "differences"}, ("differences", 0.5, 0.1, 20)),
        ({"kind": "swav", "weight": 2, "prototypes": 7}, ("responses", 2.0, 0.1, 7)),
    ],
)
def test_what_is_not_given_is_the_papers(given, filled):
    found = term(**given)
    assert (found.of, found.weight, found.temperature, found.prototypes) == filled
    assert term(**found.model_dump()) == found


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "simcse", "prototypes": 5},
        {"kind": "swav", "prototypes": None},
        {"kind": "swav", "prototypes": 1},
        {"kind": "other"},
        {"kind": "simcse", "weight": 0},
        {"kind": "simcse", "temperature": 0},
        {},
    ],
)
def test_a_term_that_cannot_be_is_refused(values):
    with pytest.raises(ValueError, match="validation error"):
        term(**values)


def test_without_dropout_there_are_no_two_views(configure, tmp_path):
    with pytest.raises(ValueError, match="with dropout 0 they are one: set dropout"):
        configure(tmp_path, contrastive=term(kind="simcse"))
    with pytest.raises(ValueError, match="train_layers 0 leaves them"):
        configure(tmp_path, contrastive=term(kind="simcse"), dropout=0.1, train_layers=0)


def test_of_an_ensemble_every_member_drops_units(configure, tmp_path):
    def plan(first: dict, **changes: object) -> EnsemblePlan:
        members = [MemberSettings(seed=0, lr=1e-3, **first), MemberSettings(seed=1, lr=1e-3)]
        contrastive = term(kind="simcse")
        return configure(
            tmp_path, EnsemblePlan, contrastive=contrastive, members=members, **changes
        )

    assert plan({"dropout": 0.2}, dropout=0.1).member(1).dropout == 0.1
    with pytest.raises(ValueError, match="set dropout"):
        plan({"dropout": 0.2})
    with pytest.raises(ValueError, match="set dropout"):
        plan({"dropout": 0.0}, dropout=0.1)


def test_the_refusal_is_one_sentence_with_the_file(configure, tmp_path):
    values = configure(tmp_path).model_dump() | {"contrastive": {"kind": "simcse"}}
    with pytest.raises(SettingsError, match=r"^plan\.yaml: Value error, contrastive compares"):
        parse(type(configure(tmp_path)), values, "plan.yaml")


def inputs_of(configure, tokenizer, tmp_path, **changes):
    """A trainer, and a batch of three pairs of two prompts."""
    config = configure(tmp_path, **({"dropout": 0.3} | changes))
    model = backbone.load_backbone(config, tokenizer)
    pairs = [
        Pair(({"role": "user", "content": prompt},), chosen, rejected, "s", "c")
        for prompt, chosen, rejected in (
            ("Hi?", "Yes", "No"),
            ("Hi?", "Yes", "Hm"),
            ("Ho", "A", "B"),
        )
    ]
    encoded, _ = encode(pairs, Encoder(tokenizer, len(tokenizer), 128), None)
    return config, model, PairCollator(model)(list(dataset(encoded)))


@pytest.mark.parametrize("of", ["responses", "differences"])
def test_the_loss_is_the_pairs_and_the_term_of_two_forwards(configure, tokenizer, tmp_path, of):
    settings = term(kind="simcse", of=of, weight=0.5)
    config, model, inputs = inputs_of(configure, tokenizer, tmp_path, contrastive=settings)
    contrast = Contrast(settings, 32, seed=0)
    scorer = Scorer(model, contrast=contrast).train()
    trainer = PairTrainer(config, model=scorer, args=arguments(config))
    torch.manual_seed(4)
    found = trainer.compute_loss(scorer, inputs)
    torch.manual_seed(4)
    first, second = scorer(inputs["batch"]), scorer(inputs["batch"])
    assert not torch.equal(first.states, second.states)
    judged = inputs["judged"]
    pairs = losses.bradley_terry(first.scores[judged.chosen], first.scores[judged.rejected])
    # "Yes" stands twice.
    kept = [0, 1, 3, 4, 5]
    if of == "responses":
        views = [one.states[kept] for one in (first, second)]
    else:
        views = [
            signed_differences(one.states, torch.tensor([0, 0, 4]), judged.rejected)
            for one in (first, second)
        ]
    expected = pairs.mean() + 0.5 * simcse(*views, 0.05).mean()
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)


def test_without_dropout_the_term_is_at_its_floor(configure, tokenizer, tmp_path):
    """What is refused, and why: the views are equal, and each vector finds itself."""
    _, model, inputs = inputs_of(configure, tokenizer, tmp_path, dropout=0.0)
    scorer = Scorer(model).train()
    views = [scorer(inputs["batch"]).states[[0, 1, 3, 4, 5]] for _ in range(2)]
    assert torch.equal(*views)
    cosine = torch.cosine_similarity(views[0][:, None], views[0][None], dim=2)
    floor = -torch.log_softmax(cosine / 0.05, dim=1).diagonal()
    torch.testing.assert_close(simcse(*views, 0.05), floor, atol=1e-4, rtol=1e-4)


def prototypes(directory) -> torch.Tensor:
    (last,) = (directory / "trainer").glob("checkpoint-*/model.safetensors")
    return load_file(last)["contrast.prototypes"]


def test_prototypes_are_trained_and_resumed_and_left_out_of_the_checkpoint(configure, tmp_path):
    shared = {"contrastive": term(kind="swav", prototypes=6), "dropout": 0.1}
    whole, broken = (configure(tmp_path / name, epochs=2, **shared) for name in ("whole", "broken"))
    train(whole)
    with interrupted_after_first_state(broken.out):
        train(broken)
    train(broken, resume=True)
    assert same(broken.out, whole.out)
    found = prototypes(whole.out)
    assert torch.equal(prototypes(broken.out), found)
    drawn = Contrast(whole.contrastive, 32, whole.seed).prototypes
    assert (found - drawn).abs().max() > 1e-3
    assert not any("prototypes" in name for name in weights(whole.out))
    assert all(entry["contrastive"] > 0 for entry in history(whole))


@pytest.fixture
def encoder_base(tmp_path, tokenizer):
    directory = tmp_path / "encoder"
    torch.manual_seed(3)
    BertModel(BertConfig(**BERT, vocab_size=len(tokenizer))).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": Lora(r=2, alpha=4)},
        {"train_layers": 2, "trunk_cache": "trunk.safetensors"},
        {"kwise": True},
        {"precision": "bf16", "gradient_checkpointing": True},
        {"model": "encoder"},
    ],
    ids=["lora", "trunk_cache", "kwise", "bf16", "encoder"],
)
def test_it_goes_with_other_ways_to_train(configure, tmp_path, encoder_base, changes):
    places = {
        name: tmp_path / changes[name] for name in ("trunk_cache", "model") if name in changes
    }
    config = configure(
        tmp_path / "out",
        contrastive=term(kind="swav", of="differences"),
        dropout=0.2,
        epochs=1,
        **changes | {name: str(place) for name, place in places.items()},
    )
    train(config)
    assert all(math.isfinite(e["contrastive"]) and e["contrastive"] > 0 for e in history(config))
    assert checkpoint.read(config.out)[0].training["validation_accuracy"] > 0
