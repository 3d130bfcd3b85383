"""Networks of the held-out families; meta-training does not use these kinds of network."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """A convolution, then residual blocks of two convolutions with GroupNorm."""

    def __init__(self, *, channels: int, blocks: int, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        pairs = [
            (nn.Conv2d(channels, channels, 3, padding=1), nn.GroupNorm(4, channels))
            for _ in range(2 * blocks)
        ]
        self.convs = nn.ModuleList(conv for conv, _ in pairs)
        self.norms = nn.ModuleList(norm for _, norm in pairs)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (batch, 1, size, size) to logits (batch, num_classes)."""
        x = self.stem(images)
        for i in range(0, len(self.convs), 2):
            inner = F.relu(self.norms[i](self.convs[i](x)))
            x = F.relu(x + self.norms[i + 1](self.convs[i + 1](inner)))
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """A causal transformer on symbols, with learned position embeddings."""

    def __init__(self, *, symbols: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(symbols, width, bias=False)
        self.places = nn.Parameter(0.02 * torch.randn(context, width))
        self.layers = nn.ModuleList(_Block(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, symbols)
        self.symbols = symbols

    def forward(self, ids: Tensor) -> Tensor:
        """Map symbols (batch, context) to logits (batch, context, symbols)."""
        x = self.embed(F.one_hot(ids, self.symbols).to(self.places)) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.mix(self.first(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        weights = scores.masked_fill(hidden, -1e9).softmax(-1)
        x = x + self.mixed((weights @ v).transpose(1, 2).reshape(batch, length, width))
        return x + self.narrow(F.gelu(self.widen(self.second(x))))


class Recurrent(nn.Module):
    """A gated recurrent unit on symbols."""

    def __init__(self, *, symbols: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(symbols, 3 * width)
        self.gates, self.update = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.head = nn.Linear(width, symbols)
        self.symbols, self.width = symbols, width

    def forward(self, ids: Tensor) -> Tensor:
        """Map symbols (batch, context) to logits (batch, context, symbols)."""
        read = self.embed(F.one_hot(ids, self.symbols).to(self.head.weight))
        h, found = torch.zeros_like(read[:, 0, : self.width]), []
        for x in read.unbind(1):
            gates, candidate = x.split((2 * self.width, self.width), -1)
            reset, keep = torch.sigmoid(gates + self.gates(h)).chunk(2, -1)
            h = keep * h + (1 - keep) * torch.tanh(candidate + self.update(reset * h))
            found.append(h)
        return self.head(torch.stack(found, 1))


class Autoencoder(nn.Module):
    """An MLP that encodes an input as a small code and decodes it again."""

    def __init__(self, *, inputs: int, hidden: int, code: int) -> None:
        super().__init__()
        sizes = [inputs, hidden, code, hidden, inputs]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (batch, inputs) to their reconstructions."""
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return self.layers[-1](x)


class LSTM(nn.Module):
    """One layer of torch's LSTM on symbols."""

    def __init__(self, *, symbols: int, width: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(symbols, width), nn.Linear(width, symbols)
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        """Map symbols (batch, context) to logits (batch, context, symbols)."""
        return self.head(self.lstm(self.embed(ids))[0])
