"""MetaRM: the objective, the step, and short real trainings."""

import hashlib
import json
import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from short_runs import history, interrupted_after_first_state, same

from plaudit import checkpoint
from plaudit.batch import PaddedBatch, batch_for
from plaudit.conversation import Encoder
from training import backbone
from training.data.batches import Judged
from training.data.jsonlines import DataError
from training.data.sources import Source
from training.data.splits import Split, unit_digest
from training.data.unlabelled import Unlabelled
from training.meta import Shifted, difference, moved
from training.method_settings import Lora, MetaSettings
from training.settings import SettingsError
from training.train import refuse_processes, train
from training.trainer import Forward, PairTrainer, Scorer, arguments


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.fixture(scope="module")
def meta_file(tmp_path_factory):
    """60 prompts of another kind than the pairs', four responses each."""
    path = tmp_path_factory.mktemp("meta") / "shifted.jsonl"
    rows = [
        {
            "prompt": f"Tell me about thing {i}",
            "responses": [f"{i} is so, because", f"Is it? {i}!!", f"No {i}", f"A {i} it is, yes"],
        }
        for i in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def with_meta(configure, tmp_path, meta_file):
    """``with_meta(name, step, **changes)``: settings with the shifted responses."""

    def _with_meta(name, step, **changes):
        meta = MetaSettings(path=meta_file, step=step, prompts=8, responses=4)
        return configure(tmp_path / name, meta=meta, **changes)

    return _with_meta


@pytest.mark.parametrize("k", [2, 4, 7])
def test_equal_scores_give_the_least_and_far_ones_the_most(k):
    assert difference(torch.full((3, k), 1.5)).item() == pytest.approx((k - 1) / (2 * k))
    far = 1e3 * torch.arange(k).float().expand(2, k)
    assert difference(far).item() == pytest.approx((k - 1) / k)


def test_the_objective_by_hand():
    # Gaps of log 3, log 3 and 0: sigmoids of 3/4, 3/4 and 1/2; 2/9 of their sum.
    scores = torch.tensor([[0.0, math.log(3), 0.0]])
    assert difference(scores).item() == pytest.approx(2 / 9 * 2)
    both = torch.cat([scores, torch.ones(1, 3)])
    assert difference(both).item() == pytest.approx((4 / 9 + 1 / 3) / 2)


@settings(deadline=None)
@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=6))
def test_the_objective_lies_in_its_bounds_whatever_the_order(scores):
    k = len(scores)
    found = difference(torch.tensor([scores])).item()
    assert (k - 1) / (2 * k) - 1e-6 <= found <= (k - 1) / k + 1e-6
    assert difference(torch.tensor([scores[::-1]]) + 3).item() == pytest.approx(found, abs=1e-5)


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=5), st.floats(-10, 10, width=32)
)
def test_weights_come_back_to_the_bit_and_so_after_an_error(values, step):
    weight, untouched = torch.tensor(values), torch.ones(2)
    directions = [torch.full_like(weight, 1 / 3), None]
    with moved([weight, untouched], directions, step):
        torch.testing.assert_close(weight, torch.tensor(values) + step / 3)
        assert untouched.tolist() == [1, 1]
    assert torch.equal(weight, torch.tensor(values))
    with pytest.raises(KeyboardInterrupt), moved([weight], directions[:1], step):
        raise KeyboardInterrupt
    assert torch.equal(weight, torch.tensor(values))


@pytest.mark.parametrize(("step", "rises"), [(0.5, True), (-0.5, False)])
def test_a_step_along_the_gradient_raises_the_objective_and_one_against_it_lowers_it(step, rises):
    weight = torch.tensor([0.3, -0.2], requires_grad=True)
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]])
    before = difference(features @ weight)
    (gradient,) = torch.autograd.grad(before, weight)
    with moved([weight], [gradient], step):
        assert (difference(features @ weight) > before) == rises


class TwoWeights(torch.nn.Module):
    """``score = a x + b x**2`` of a sequence's only token id x."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (torch.nn.Parameter(torch.tensor(value)) for value in (0.5, 0.25))
        self.beside = self.contrast = None
        config = SimpleNamespace(pad_token_id=0)
        self.model = SimpleNamespace(config=config, device=torch.device("cpu"))

    def forward(self, batch, states=None, characters=None):
        x = batch.ids[:, 0].float()
        return Forward(self.a * x + self.b * x**2, x[:, None], torch.zeros_like(x))


@pytest.mark.parametrize("step", [0.0, 2.0])
def test_two_weights_by_hand(configure, tmp_path, step):
    """Responses 1 and 2: their scores differ by |a + 3b| = 1.25, so the gradient of the objective
    is ``s'(1.25)/2 · (1, 3)``. A pair of 3 over 1 leads by ``2a + 8b``."""
    meta = MetaSettings(path=tmp_path, step=step, prompts=1, responses=2)
    shifted = Shifted(Unlabelled(tmp_path, ""), [[(1,), (2,)]], meta, seed=0)
    config = configure(tmp_path)
    trainer = PairTrainer(config, shifted, model=TwoWeights(), args=arguments(config))
    trainer.current_gradient_accumulation_steps = 1
    rows = [
        {"sequences": [[3], [1]], "better": [[0, 1]], "target_margin": [0.0], "soft_label": [1.0]}
    ]
    inputs = {
        "batch": PaddedBatch.of([[3], [1]], 0, torch.device("cpu")),
        "states": None,
        "characters": torch.ones(2),
        "judged": Judged.of(rows, torch.device("cpu")),
        "tokens": 2,
    }
    loss = trainer.training_step(trainer.model, inputs).item()
    up = sigmoid(1.25) * (1 - sigmoid(1.25)) / 2
    a, b = 0.5 + step * up, 0.25 + step * 3 * up
    lead = 2 * a + 8 * b
    assert loss == pytest.approx(math.log(1 + math.exp(-lead)))
    assert (trainer.model.a.item(), trainer.model.b.item()) == (0.5, 0.25)
    gradient = [trainer.model.a.grad.item(), trainer.model.b.grad.item()]
    assert gradient == pytest.approx([-2 * sigmoid(-lead), -8 * sigmoid(-lead)])


def test_a_step_of_nothing_is_plain_training_to_the_bit(configure, with_meta, tmp_path):
    """With dropout: its random numbers, and those of the order, stay the pairs' own."""
    short = {"dropout": 0.2, "epochs": 1}
    plain, still = configure(tmp_path / "plain", **short), with_meta("still", 0.0, **short)
    train(plain)
    train(still)
    assert same(still.out, plain.out)
    moving = with_meta("moving", 0.1, **short)
    train(moving)
    assert not same(moving.out, plain.out)


@pytest.mark.parametrize(("step", "rises"), [(0.01, True), (-0.01, False)])
def test_a_step_tells_responses_to_held_out_prompts_further_apart(with_meta, step, rises):
    config = with_meta("model", 0.0)
    tokenizer = backbone.load_tokenizer(config)
    scorer = Scorer(backbone.load_backbone(config, tokenizer))
    encoder = Encoder(tokenizer, len(tokenizer), config.max_tokens)
    shifted = Shifted.read(config, encoder)
    held_out = [
        encoder.pair(one.prompt, response)
        for one in shifted.source.prompts
        if config.split.side(one) == "test"
        for response in one.responses
    ]

    def objective(sequences):
        scores = scorer(batch_for(scorer.model, sequences)).scores
        return difference(scores.unflatten(0, (-1, 4)))

    weights = list(scorer.parameters())
    gradients = torch.autograd.grad(objective(shifted.at(0)), weights)
    before = objective(held_out).item()
    with moved(weights, gradients, step):
        assert (objective(held_out).item() > before) == rises
    assert objective(held_out).item() == before


def test_two_halves_accumulate_to_the_whole_batch(with_meta, easy_pairs):
    """The forwards of one optimiser step share its shifted responses."""
    sources = [Source(name="easy", path=easy_pairs, max_pairs=32)]
    found = []
    for pairs, accumulation in ((32, 1), (16, 2)):
        changes = {"batch_pairs": pairs, "accumulation": accumulation, "epochs": 1}
        config = with_meta(str(accumulation), 3.0, sources=sources, save_steps=1, **changes)
        train(config)
        (entry,) = history(config)
        found.append([entry[name] for name in ("loss", "grad_norm", "difference")])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_an_interrupted_run_meets_the_same_responses_when_it_resumes(with_meta):
    whole, broken = (with_meta(name, 0.1, epochs=2, save_steps=3) for name in ("whole", "broken"))
    train(whole)
    with interrupted_after_first_state(broken.out):
        train(broken)
    train(broken, resume=True)
    assert same(broken.out, whole.out)


def test_the_responses_of_a_step_follow_from_its_number_and_the_seed(tmp_path):
    prompts = [[(place, number) for number in range(6)] for place in range(9)]
    meta = MetaSettings(path=tmp_path, step=1, prompts=4, responses=3)

    def at(seed, step):
        return Shifted(Unlabelled(tmp_path, ""), prompts, meta, seed).at(step)

    assert at(0, 5) == at(0, 5)
    assert at(0, 5) != at(0, 6)
    assert at(0, 5) != at(1, 5)
    groups = [at(0, 5)[start : start + 3] for start in range(0, 12, 3)]
    assert all(len({place for place, _ in group}) == 1 for group in groups)  # of one prompt
    assert all(len(set(group)) == 3 for group in groups)
    assert len({group[0][0] for group in groups}) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": Lora(r=2, alpha=4)},
        {"train_layers": 2, "trunk_cache": "trunk.safetensors"},
        {"kwise": True},
        {"precision": "bf16", "train_layers": 1},
    ],
    ids=["lora", "trunk_cache", "kwise", "bf16"],
)
def test_it_goes_with_other_ways_to_train(with_meta, tmp_path, changes):
    if "trunk_cache" in changes:
        changes = changes | {"trunk_cache": tmp_path / changes["trunk_cache"]}
    config = with_meta("out", 0.1, epochs=1, **changes)
    train(config)
    assert all(3 / 8 < entry["difference"] < 3 / 4 for entry in history(config))
    assert checkpoint.read(config.out)[0].training["validation_accuracy"] > 0


def test_what_was_read_is_told_and_recorded(configure, tmp_path, meta_file, capsys):
    path = tmp_path / "some.jsonl"
    answers = ["One.", "Two.", "Three."]
    odd = [
        {"prompt": "Few?", "responses": ["One.", "One."]},
        {"prompt": "Long?", "responses": ["One.", "Two.", "x" * 500]},
        {"prompt": "Empty?", "responses": ["One.", " "]},
        {"prompt": [{"role": "assistant", "content": "Hi"}], "responses": answers},
        {"responses": answers},
        {"prompt": "Text?", "responses": "One."},
        [],
    ]
    good = [{"prompt": f"What is {i}?", "responses": answers} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*odd, *good]))
    meta = MetaSettings(path=path, step=0.1, prompts=2, responses=3)
    # Nothing is held out, so that every prompt counts.
    config = configure(tmp_path / "out", meta=meta, epochs=1, split=Split(validation=0.3, test=0))
    train(config)
    said = capsys.readouterr().out
    assert "42 prompts, 124 unlabelled responses, 5 refused" in said
    assert "an empty response" in said
    assert "lines 3, 4, 5, 6, 7" in said
    recorded = checkpoint.read(config.out)[0].training["meta"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    inside = [row for row in good if unit_digest(row["prompt"]) >= 0.3]
    assert recorded == {"data": f"sha256:{digest}", "prompts": len(inside), "refused_rows": 5}
    assert f"{len(inside)} prompts to tell responses of apart" in said
    assert 0 < len(inside) < len(good)


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ('{"prompt": "a", "chosen": "b"}', DataError, "no row holds a prompt and a list"),
        ('{"prompt": "a", "responses": ["b", "c"]}', SettingsError, "meta.prompts is 8: lower it"),
    ],
)
def test_too_little_to_tell_apart_is_refused(configure, tmp_path, text, error, said):
    path = tmp_path / "few.jsonl"
    path.write_text(text)
    config = configure(tmp_path / "out", meta=MetaSettings(path=path, step=1, responses=2))
    with pytest.raises(error, match=said):
        train(config)


def test_a_step_down_is_refused(tmp_path):
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        MetaSettings(path=tmp_path, step=-0.1)


def test_several_processes_are_refused(with_meta, configure, tmp_path):
    with pytest.raises(SettingsError, match="in one process, not 2: take more accumulation"):
        refuse_processes(with_meta("out", 0.1), 2)
    refuse_processes(with_meta("out", 0.1), 1)
    refuse_processes(configure(tmp_path), 2)
