"""TRL's losses are the closed forms that we document: values and gradients, in plain torch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, PreTrainedModel

from plaudit.conversation import Encoder
from training.data import sources
from training.data.shapes import Pair
from training.data.sources import Source
from training.data.splits import Split
from training.policy.chat import Chat
from training.policy.prefer import PreferSettings, sides, trainer_of
from training.policy.preference_rows import singles

PAIRS = 4


class Case:
    """TRL's trainer of one loss, its policy away from the reference, and its first batch."""

    def __init__(self, policy: Path, data: Path, out: Path, loss: str, **changes: Any):
        config = PreferSettings(
            model=str(policy),
            out=out,
            sources=[Source(name="easy", path=data, max_pairs=PAIRS)],
            split=Split(validation=0.3, test=0.1),
            loss=loss,
            batch_responses=PAIRS if loss == "kto" else 2 * PAIRS,
            precision="fp32",
            log_to=[],
            **changes,
        )
        self.tokenizer = Chat.load(str(policy)).tokenizer
        loaded = [sources.load(one) for one in config.sources]
        limit = Encoder(self.tokenizer, len(self.tokenizer), config.max_tokens)
        self.pairs = sides(config, loaded, limit)[0]
        self.rows = singles(self.pairs, config.seed)[:PAIRS]
        self.reference = AutoModelForCausalLM.from_pretrained(policy).eval()
        self.trainer = trainer_of(config, Chat.load(str(policy)), loaded)
        self.policy: PreTrainedModel = self.trainer.model
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in self.policy.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.05)
        self.batch = next(iter(self.trainer.get_train_dataloader()))

    def by_trl(self) -> Tensor:
        return self.trainer.compute_loss(self.policy, self.batch)

    def gradient(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(self.policy.parameters())))

    def sequence(self, pair: Pair, chosen: bool) -> tuple[list[int], int]:
        """Ids of a conversation up to the end of its response, and where the response starts. A
        response that was cut has no end token."""
        answer = [{"role": "assistant", "content": pair.chosen if chosen else pair.rejected}]
        before, ids = (
            self.tokenizer.apply_chat_template(turns, add_generation_prompt=ask, return_dict=False)
            for turns, ask in ((pair.asked, True), (pair.asked + answer, False))
        )
        end = ids.index(self.tokenizer.eos_token_id, len(before))
        finished = pair.finished[0 if chosen else 1]
        return ids[: end + 1 if finished else end], len(before)

    def ratio(self, ids: list[int], start: int) -> tuple[Tensor, int]:
        """Summed log ratio of the response to the reference, and its number of tokens."""
        before = log_probabilities(self.reference, ids)[start - 1 :].detach()
        return (log_probabilities(self.policy, ids)[start - 1 :] - before).sum(), len(ids) - start


def log_probabilities(model: PreTrainedModel, ids: list[int]) -> Tensor:
    """Of each token but the first, given those before it: one sequence, without padding."""
    whole = torch.tensor([ids])
    logits = model(input_ids=whole).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, whole[0, 1:, None])[:, 0]


def dpo(case: Case) -> Tensor:
    costs = [-logsigmoid(0.1 * (up - down)) for (up, _), (down, _) in of_pairs(case)]
    return torch.stack(costs).mean()


def ipo(case: Case) -> Tensor:
    costs = [(up / n - down / m - 1 / (2 * 0.1)) ** 2 for (up, n), (down, m) in of_pairs(case)]
    return torch.stack(costs).mean()


def of_pairs(case: Case) -> list[tuple[tuple[Tensor, int], tuple[Tensor, int]]]:
    return [
        tuple(case.ratio(*case.sequence(pair, chosen)) for chosen in (True, False))
        for pair in case.pairs
    ]


def kto(case: Case) -> Tensor:
    own = [case.sequence(*row) for row in case.rows]
    others = [own[-1], *own[:-1]]
    crossed = [
        case.ratio([*ids[:start], *other[other_start:]], start)[0]
        for (ids, start), (other, other_start) in zip(own, others, strict=True)
    ]
    z = torch.stack(crossed).mean().clamp(min=0).detach()
    costs = []
    for (_, chosen), sequence in zip(case.rows, own, strict=True):
        ratio, _ = case.ratio(*sequence)
        costs.append(1 - torch.sigmoid(0.1 * (ratio - z if chosen else z - ratio)))
    return torch.stack(costs).mean()


def mean_log_probability(case: Case, pair: Pair, chosen: bool) -> Tensor:
    ids, start = case.sequence(pair, chosen)
    return log_probabilities(case.policy, ids)[start - 1 :].mean()


def simpo(case: Case) -> Tensor:
    costs = []
    for pair in case.pairs:
        up, down = (mean_log_probability(case, pair, chosen) for chosen in (True, False))
        costs.append(-logsigmoid(2.5 * (up - down) - 1.4))
    return torch.stack(costs).mean()


def orpo(case: Case) -> Tensor:
    costs, tokens = [], []
    for pair in case.pairs:
        up, down = (mean_log_probability(case, pair, chosen) for chosen in (True, False))
        odds = [p - torch.log(1 - torch.exp(p)) for p in (up, down)]
        costs.append(-0.1 * logsigmoid(odds[0] - odds[1]))
        tokens.append(log_probabilities(case.policy, case.sequence(pair, chosen=True)[0]))
    return -torch.cat(tokens).mean() + torch.stack(costs).mean()


FORMS: dict[str, Callable[[Case], Tensor]] = {
    "dpo": dpo, "ipo": ipo, "kto": kto, "orpo": orpo, "simpo": simpo,
}  # fmt: skip


@pytest.fixture(scope="module")
def cut_pairs(easy_pairs, tmp_path_factory) -> Path:
    """Pairs of which one response was cut, in turn the chosen and the rejected one."""
    path = tmp_path_factory.mktemp("cut") / "cut.jsonl"
    rows = [json.loads(line) for line in easy_pairs.read_text().splitlines()]
    for place, row in enumerate(rows):
        row |= {"chosen_finished": place % 2 == 0, "rejected_finished": place % 2 == 1}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("loss", FORMS)
def test_value_and_gradient_are_those_of_the_closed_form(loss, policy, cut_pairs, tmp_path):
    """The template writes a newline behind the end token, which is no part of a response."""
    case = Case(policy, cut_pairs, tmp_path, loss)
    assert {pair.finished for pair in case.pairs} == {(True, False), (False, True)}
    found, expected = case.by_trl(), FORMS[loss](case)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = zip(case.gradient(found), case.gradient(expected), strict=True)
    for one, other in gradients:
        assert torch.allclose(one, other, atol=1e-5 * other.abs().max().item() + 1e-8)


def test_kto_rises_with_the_likelihood_of_an_undesirable_response(policy, easy_pairs, tmp_path):
    """A published trainer has the sign the other way round."""
    case = Case(policy, easy_pairs, tmp_path, "kto")
    case.batch["label"] = torch.zeros_like(torch.as_tensor(case.batch["label"]))
    rejected = [case.ratio(*case.sequence(*row))[0] for row in case.rows]
    up = case.gradient(torch.stack(rejected).sum())
    along = sum((a * b).sum() for a, b in zip(case.gradient(case.by_trl()), up, strict=True))
    assert along > 0
    case.batch["label"] = torch.ones_like(case.batch["label"])
    along = sum((a * b).sum() for a, b in zip(case.gradient(case.by_trl()), up, strict=True))
    assert along < 0


def test_ipo_is_least_at_half_of_one_over_beta(policy, easy_pairs, tmp_path):
    case = Case(policy, easy_pairs, tmp_path, "ipo", beta=0.25)
    by_text = dict(zip((p.chosen for p in case.pairs), of_pairs(case), strict=True))
    # The reference is moved, in the batch that TRL reads, to where the formula is zero.
    for place, ids in enumerate(case.batch["input_ids"][:PAIRS]):
        text = case.tokenizer.decode(ids)
        [(up, n), (down, _)] = next(found for said, found in by_text.items() if said in text)
        case.batch["ref_chosen_logps"][place] += (up - n * 2.0).item()
        case.batch["ref_rejected_logps"][place] += down.item()
    found = case.by_trl()
    assert found.item() == pytest.approx(0, abs=1e-8)
    assert all(one.abs().max() < 1e-3 for one in case.gradient(found))


def test_simpo_does_not_see_how_long_a_response_is(policy, easy_pairs, tmp_path):
    """A response of the same mean log probability costs the same, whatever its length: what TRL is
    told makes it divide by the response's own tokens, without the prompt's."""
    case = Case(policy, easy_pairs, tmp_path, "simpo")
    chosen = case.trainer.concatenated_forward(case.policy, case.batch)[0]
    texts = {mean_log_probability(case, pair, chosen=True).item() for pair in case.pairs}
    assert sorted(chosen.tolist()) == pytest.approx(sorted(texts), rel=1e-5)
