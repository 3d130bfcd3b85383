"""A recurrent language model with a shared input and output matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LSTMLanguageModel(nn.Module):
    """Embedding, LSTM layers and a linear map to a score per entry of the vocabulary.

    Dropout is applied in three places: on the embedded tokens, between layers and on the last
    layer's output. The initial embedding and output matrix are uniform in +-0.1, and the output's
    bias is zero; the LSTM has torch's usual initial weights. This is the network of the word
    language model in PyTorch's examples and, with a width of 512, of MLR-SNet's text experiments
    (Shu et al. 2020, arXiv 2007.14546).

    Weight tying (Press and Wolf 2017, arXiv 1608.05859) uses one parameter that is read twice, not
    two names for one tensor. If a parameter is replaced, for a virtual step or an unroll, it is
    therefore replaced in both places.

    On a CUDA device torch runs the layers in cuDNN, which has no second derivative. Of the
    hypergradient estimators, `closed_form` and `first_order` do not need it. `unroll` and `adjoint`
    need it and refuse the model, unless the whole training, including forward passes, is inside
    `with torch.backends.cudnn.flags(enabled=False):`. torch then uses its own, slower layers.

    Args:
        num_classes: Entries in the vocabulary.
        width: Width of the embedding and of each layer; weight tying needs equal widths.
        layers: LSTM layers.
        dropout: Probability that a number is dropped in train mode, in all three places.
        tied: Whether the output matrix is the embedding.

    Raises:
        ValueError: A size is not positive, or `dropout` is outside [0, 1).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        width: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        tied: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("num_classes", num_classes), ("width", width), ("layers", layers)):
            if value < 1:
                raise ValueError(f"LSTMLanguageModel got {name}={value}; it must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"LSTMLanguageModel got dropout={dropout}; it must be in [0, 1)")
        self.embedding = nn.Embedding(num_classes, width)
        between = dropout if layers > 1 else 0.0  # torch warns about dropout with one layer
        self.lstm = nn.LSTM(width, width, layers, dropout=between, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = None if tied else nn.Parameter(torch.empty(num_classes, width))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        for matrix in (self.embedding.weight, self.output):
            if matrix is not None:
                nn.init.uniform_(matrix, -0.1, 0.1)

    def forward(self, tokens: Tensor, num_scored: int) -> Tensor:
        """Map tokens, int64 (batch, time), to logits (batch, num_scored, num_classes).

        The state starts from zeros. The logits are those after each of the last `num_scored`
        tokens. The tokens before them only warm up the state, without gradient.
        """
        warm, state = tokens.shape[1] - num_scored, None
        if warm:
            with torch.no_grad():
                _, state = self.lstm(self._embedded(tokens[:, :warm]))
        hidden, _ = self.lstm(self._embedded(tokens[:, warm:]), state)
        matrix = self.embedding.weight if self.output is None else self.output
        return F.linear(self.dropout(hidden), matrix, self.bias)

    def _embedded(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.embedding(tokens))
