"""A bias expert that is trained beside the reward model and never served (arXiv:2310.05199).

Two logistic experts over the same two responses multiply to one whose margin is the sum of theirs:
``sigmoid(d_model + d_bias)``. What length alone predicts, the bias expert learns; the model is left
with the rest. The paper's bias expert is a small language model with noise on its embeddings; this
one sees nothing but the length, so it can take nothing else.

Letters: N responses.
"""

import torch
from torch import Tensor, nn

# In logarithms of characters: responses of 20 to 8,000 characters lie within 3 of the middle.
MIDDLE = 6.0


class LengthExpert(nn.Module):
    """A cubic polynomial in the logarithm of the response's characters."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, states: Tensor, characters: Tensor) -> Tensor:
        """What lengths (N,) alone say for their responses, (N,); the states are not looked at."""
        place = torch.log1p(characters) - MIDDLE
        return torch.stack([place, place**2, place**3], dim=1) @ self.weight

    def penalty(self, head: Tensor, scores: Tensor, own: Tensor, characters: Tensor) -> Tensor:
        """Nothing but the ranking is asked of the two."""
        return torch.zeros((), device=scores.device)
