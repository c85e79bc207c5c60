"""Losses of reward models. Pure functions of scores; B pairs, every tensor (B,) in fp32."""

from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    target_margin: Tensor | float = 0.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean over pairs of ``-(1-a) log s(d) - a log s(-d)`` with ``d = chosen - rejected - margin``.

    ``label_smoothing`` is ``a``, the share of labels held to be flipped (arXiv:2401.06080 eq. 5).
    The target margin stands inside the log-sigmoid: outside it has no gradient (arXiv:2307.09288
    eq. 2).
    """
    difference = chosen - rejected - target_margin
    kept = (1 - label_smoothing) * logsigmoid(difference)
    flipped = label_smoothing * logsigmoid(-difference)
    return -(kept + flipped).mean()


def centring(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Mean over pairs of ``(chosen + rejected)**2``: keeps scores near zero (arXiv:2312.09244)."""
    return (chosen + rejected).square().mean()
