"""Contrastive terms of a reward model's features (arXiv:2401.06080 section 3), in fp32.

Two forwards of one batch, which drop different units, give two views of each feature vector. A term
pulls the views of one vector together and holds different vectors apart.

Letters: P pairs, S sequences, N vectors, D width, K prototypes.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from training.data.batches import Judged
from training.method_settings import ContrastiveSettings

# Of Sinkhorn's codes (arXiv:2006.09882 section 3.1 and appendix A).
SHARPNESS = 0.05
ROUNDS = 3


class Contrast(nn.Module):
    """The term that ``settings`` name, of features of width D. Holds SwAV's prototypes, which are
    trained, and are no part of a checkpoint."""

    def __init__(self, settings: ContrastiveSettings, width: int, seed: int):
        super().__init__()
        self._settings = settings
        if settings.prototypes is not None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(settings.prototypes, width, generator=generator)
            self.prototypes = nn.Parameter(normalize(drawn))

    def forward(self, first: Tensor, second: Tensor, judged: Judged, place: Tensor) -> Tensor:
        """The weighted mean cost of a batch's vectors, from both views (S, D) of its sequences, its
        pairs, and the place (S,) where each sequence first stands."""
        views = [self._vectors(states, judged, place) for states in (first, second)]
        temperature = self._settings.temperature
        if self._settings.kind == "simcse":
            costs = simcse(views[0], views[1], temperature)
        else:
            costs = swav(views[0], views[1], self.prototypes, temperature)
        return self._settings.weight * costs.mean()

    def _vectors(self, states: Tensor, judged: Judged, place: Tensor) -> Tensor:
        """Each response, or each difference of two, once: a repeated one would be held apart from
        itself."""
        if self._settings.of == "responses":
            return states[torch.unique(place)]
        sides = torch.stack([place[judged.chosen], place[judged.rejected]]).sort(dim=0).values
        return signed_differences(states, *torch.unique(sides, dim=1))


def simcse(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Costs (N,) of vectors in two views (N, D): ``-log softmax_j(cos(first_i, second_j) / t)[i]``
    (arXiv:2104.08821 eq. 1).

    Every other vector is held apart, so each must stand once. With equal views the cost has a floor
    that depends on the vectors' distances alone, and nothing says what a view may leave out.
    """
    likeness = cosines(first, second) / temperature
    return -torch.log_softmax(likeness, dim=1).diagonal()


def swav(first: Tensor, second: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Costs (N,): each view (N, D) predicts the other's code over prototypes (K, D)
    (arXiv:2006.09882 eq. 1 and 2). Codes are targets: they have no gradient.

    Vectors and prototypes are taken at length one, as there.
    """
    views = [cosines(view, prototypes) for view in (first, second)]
    codes = [sinkhorn(likeness.detach()) for likeness in views]
    logs = [torch.log_softmax(likeness / temperature, dim=1) for likeness in views]
    return -(codes[0] * logs[1] + codes[1] * logs[0]).sum(dim=1)


def sinkhorn(likeness: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Codes (N, K), rows that sum to one, of likenesses (N, K): the prototypes share the vectors,
    N/K each after many rounds, so that not all vectors choose one of them."""
    codes = likeness.float() / SHARPNESS  # logarithms, which do not overflow
    for _ in range(rounds):
        codes = codes.log_softmax(dim=0)
        codes = codes.log_softmax(dim=1)
    return codes.exp()


def cosines(rows: Tensor, columns: Tensor) -> Tensor:
    return normalize(rows.float(), dim=1) @ normalize(columns.float(), dim=1).T


def signed_differences(states: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """Vectors (2P, D): ``f_c - f_r`` of each pair, then ``f_r - f_c``, of states (S, D) and the
    places (P,) of both sides."""
    difference = states[chosen] - states[rejected]
    return torch.cat([difference, -difference])
