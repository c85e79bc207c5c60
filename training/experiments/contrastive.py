"""Do contrastive terms make the features of chosen and rejected responses easier to separate?

After Secrets of RLHF II (arXiv:2401.06080 section 3): SimCSE and SwAV, of responses and of
differences, with that paper's weights and dropout, beside the pair loss alone with the same
dropout, on RMB. A logistic regression, cross-fitted over folds of held-out prompts, tells chosen
from rejected by the features alone.

Letters: P pairs, H hidden units.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cosine_similarity

from training.contrastive import Contrast
from training.data.batches import first_places
from training.data.shapes import Pair
from training.data.splits import Split
from training.drawing import svg
from training.evaluate.accuracy import Estimate, differences
from training.experiments import bag_of_words
from training.experiments.bag_of_words import BagOfWords, Labels, Texts
from training.experiments.datasets import rmb_pairs
from training.experiments.result import Result, table
from training.measure import Array
from training.method_settings import ContrastiveSettings

PLAIN = "pairs alone"
TERMS = {
    "SimCSE, responses": {"kind": "simcse", "of": "responses"},
    "SimCSE, differences": {"kind": "simcse", "of": "differences"},
    "SwAV, responses": {"kind": "swav", "of": "responses"},
    "SwAV, differences": {"kind": "swav", "of": "differences"},
}
DROPOUT = 0.05
EPOCHS = 2
SPLIT = Split(validation=0, test=0.2)
FOLDS = 5
MEASURES = {"probe": "probe", "right": "pairs", "cosine": "cosine"}


@dataclass(frozen=True)
class Data:
    """Pairs as features, which are trained on, which test, and the prompts of the latter."""

    texts: Texts
    train: Array
    test: Array
    prompts: list[str]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Data":
        """Without pairs of one bag of words: their difference has no direction."""
        texts = Texts.of(pairs)
        chosen, rejected = (texts.features[texts.places[:, side]] for side in (0, 1))
        differ = np.diff((chosen - rejected).tocsr().indptr) > 0
        inside = np.array([SPLIT.side(pair) == "train" for pair in pairs])
        test = np.flatnonzero(differ & ~inside)
        prompts = [pairs[place].first_turn for place in test.tolist()]
        return cls(texts, np.flatnonzero(differ & inside), test, prompts)


@dataclass(frozen=True)
class Found:
    """Of one arm, means over seeds: the probe's AUC, how often it is right about the chosen and
    the rejected response of each test pair, how often the scores are right, and the cosine of the
    features of the two, (P,)."""

    auc: list[float]
    probe: Array
    right: Array
    cosine: Array


def run(data: Path, quick: bool) -> Result:
    """Three seeds; ``quick``: one, of SimCSE on a fifth of the prompts."""
    share, seeds = (0.2, 1) if quick else (1.0, 3)
    known = Data.of(rmb_pairs(data, share))
    found = {PLAIN: measure(known, None, seeds)}
    for name in list(TERMS)[:1] if quick else TERMS:
        found[name] = measure(known, ContrastiveSettings.model_validate(TERMS[name]), seeds)
    return Result(
        tables=[_table(known, found)],
        figure=_draw(known, found),
        figures={
            "pairs": {"train": len(known.train), "test": len(known.test)},
            "seeds": seeds,
            "arms": {
                name: {"auc": one.auc} | {what: getattr(one, what).mean() for what in MEASURES}
                for name, one in found.items()
            },
        },
        failures=[name for name, held in _claims(found, quick).items() if not held],
    )


def measure(data: Data, settings: ContrastiveSettings | None, seeds: int) -> Found:
    models = [trained(data, settings, seed) for seed in range(seeds)]
    features = [tested(data, model) for model in models]
    aucs, correct = zip(*(probed(data, one) for one in features), strict=True)
    right = [bag_of_words.margins(model, data.texts, data.test) > 0 for model in models]
    sides = [torch.from_numpy(one).chunk(2) for one in features]
    cosines = [cosine_similarity(chosen, rejected).double().numpy() for chosen, rejected in sides]
    return Found(list(aucs), *(np.mean(of, axis=0) for of in (correct, right, cosines)))


def trained(data: Data, settings: ContrastiveSettings | None, seed: int) -> BagOfWords:
    torch.manual_seed(seed)  # of the dropped units
    generator = torch.Generator().manual_seed(seed)
    texts, labels = data.texts, Labels.given(len(data.texts.places))
    model = BagOfWords(texts.features.shape[1], generator, DROPOUT)
    contrast = None if settings is None else Contrast(settings, bag_of_words.HIDDEN, seed)
    more = [] if contrast is None else list(contrast.parameters())
    optimiser = bag_of_words.adagrad([*model.parameters(), *more])
    for _ in range(EPOCHS):
        for batch in bag_of_words.batches(texts, labels, list(data.train[:, None]), generator):
            first = model.hidden(batch.rows)
            loss = bag_of_words.pair_loss(first @ model.score, batch.judged)
            if contrast is not None:
                place = torch.tensor(first_places(batch.responses[:, None].tolist()))
                loss = loss + contrast(first, model.hidden(batch.rows), batch.judged, place)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return model.eval()


@torch.no_grad()
def tested(data: Data, model: BagOfWords) -> Array:
    """Features (2P, H) of the responses of the test pairs, the chosen ones first."""
    places = data.texts.places[data.test]
    found: Array = model.hidden(data.texts.features[places.T.ravel()]).numpy()
    return found


def probed(data: Data, features: Array) -> tuple[float, Array]:
    """The probe's AUC on test responses, and how often of a pair's two (P,) it is right."""
    chosen = np.repeat([1, 0], len(data.test))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    found = cross_val_predict(
        probe,
        features,
        chosen,
        groups=np.tile(np.array(data.prompts), 2),
        cv=GroupKFold(FOLDS),
        method="decision_function",
    )
    right: Array = ((found > 0) == chosen).reshape(2, -1).mean(axis=0)
    return float(roc_auc_score(chosen, found)), right


def gains(data: Data, found: dict[str, Found], name: str) -> list[Estimate]:
    """What an arm has more of each measure than the pairs alone give, paired."""
    both = [found[PLAIN], found[name]]
    return [
        differences(np.stack([getattr(one, what) for one in both], axis=1), data.prompts, 0)[1]
        for what in MEASURES
    ]


def _claims(found: dict[str, Found], quick: bool) -> dict[str, bool]:
    """``quick`` asks only that a term does what it says."""
    plain = found[PLAIN]
    more = {name: one for name, one in found.items() if name != PLAIN}
    claims = {
        f"{name}: the responses of a pair are less alike": one.cosine.mean() < plain.cosine.mean()
        for name, one in more.items()
    }
    if quick:
        return claims
    return claims | {
        f"{name}: the probe's AUC is above that of the pairs alone": all(
            with_term > without for with_term, without in zip(one.auc, plain.auc, strict=True)
        )
        for name, one in more.items()
    }


def _table(data: Data, found: dict[str, Found]) -> str:
    titles = list(MEASURES.values())
    header = ["trained with", "AUC by seed", *titles, *(f"more {title}" for title in titles)]
    rows = [
        [
            name,
            " ".join(f"{auc:.3f}" for auc in one.auc),
            *(f"{getattr(one, what).mean():.3f}" for what in MEASURES),
            *("" if name == PLAIN else f"{gain:+.3f}" for gain in gains(data, found, name)),
        ]
        for name, one in found.items()
    ]
    return table(header, rows)


def _draw(data: Data, found: dict[str, Found]) -> str:
    names = [name for name in found if name != PLAIN]
    shown = [gains(data, found, name) for name in names]

    def panels(figure: Figure) -> None:
        axes = figure.subplots(1, len(MEASURES), sharey=True)
        for number, (axis, title) in enumerate(zip(axes, MEASURES.values(), strict=True)):
            values = [one[number] for one in shown]
            middle = [one.value for one in values]
            errors = [[v.value - v.low for v in values], [v.high - v.value for v in values]]
            axis.errorbar(middle, range(len(names)), xerr=errors, fmt="o", color="C0")
            axis.axvline(0, color="grey", linewidth=0.8)
            axis.set(title=f"{title}, more than {PLAIN}")
        axes[0].set_yticks(range(len(names)), names)

    return svg(panels, width=9)
