"""Losses of reward models. Pure functions of scores, in fp32.

Letters: P pairs, G prompts. A pair's cost comes out by itself, so that ``mean_over_prompts`` can
weigh it.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def bradley_terry(
    chosen: Tensor,
    rejected: Tensor,
    target_margin: Tensor | float = 0.0,
    label_smoothing: Tensor | float = 0.0,
) -> Tensor:
    """Costs (P,): ``-(1-a) log s(d) - a log s(-d)`` with ``d = chosen - rejected - margin``.

    ``label_smoothing`` is ``a``, the probability that the label is flipped, of all pairs or of each
    (arXiv:2401.06080 eq. 5). The target margin stands inside the log-sigmoid: outside it, as eq. 6
    there is printed, it has no gradient (compare arXiv:2307.09288 eq. 2).
    """
    difference = chosen - rejected - target_margin
    kept = (1 - label_smoothing) * logsigmoid(difference)
    flipped = label_smoothing * logsigmoid(-difference)
    return -(kept + flipped)


def flipped_probability(soft_label: Tensor, label_smoothing: float) -> Tensor:
    """How likely each label is flipped (P,): by its own soft label, then by chance."""
    return (1 - soft_label) * (1 - label_smoothing) + soft_label * label_smoothing


def centring(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Costs (P,): ``(chosen + rejected)**2``, which keeps scores near zero (arXiv:2312.09244)."""
    return (chosen + rejected).square()


def mean_over_prompts(costs: Tensor, prompt: Tensor) -> Tensor:
    """The mean over prompts of the mean cost of each one's pairs.

    ``prompt`` (P,) numbers each pair's prompt from 0 to G-1. With all comparisons of K responses
    under one number this is the K-wise loss of InstructGPT (arXiv:2203.02155 eq. 1); with a number
    for each pair, the plain mean.
    """
    pairs = torch.bincount(prompt)
    return (costs / pairs[prompt]).sum() / len(pairs)
