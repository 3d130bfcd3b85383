"""Language modelling: prediction of the next character or word from those before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from meta_lr import seeds
from meta_lr.tasks import sampling
from meta_lr.tasks.base import SPLITS, Batch, Split
from meta_lr.tasks.fingerprint import checksum
from meta_lr.tasks.models.fit import refuse_other_kind


@dataclass(frozen=True, eq=False, kw_only=True)
class TextTask:
    """A `Task` on a text of tokens, with cross-entropy in nats per token as its loss.

    An example is a window of `length` tokens to predict. Each token is predicted from all tokens
    before it in the window and from the `warm` tokens before the window. Each part of the text is
    cut into windows from its start. Each token is therefore predicted once in a pass, except for
    fewer than `length` tokens at the end of the part. The text before a part is read as line ends.

    Backpropagation through time is truncated to the window. The state starts from zeros and is
    warmed up by reading the `warm` tokens again, without gradient. The usual method instead carries
    the state from window to window, over any distance and at no cost. But then a loss depends on
    the batches before it: experiments on other batches, `meta` and evaluations would start from a
    wrong state. With the warm-up, the state is that of the present weights, and the loss is a pure
    function of weights and batch. Windows can be shuffled, and a replayed step is exact. The extra
    cost is `warm / length` of a forward pass. As with a carried state, gradients and hypergradients
    do not include the effect of the weights on the warmed-up state.

    Args:
        name: Short name for records.
        num_classes: Entries in the vocabulary.
        network: Called as `network(num_classes=...)`; the model is called as
            `model(inputs, length)`, with inputs (batch, warm + length), and gives logits
            (batch, length, num_classes).
        parts: int64 (tokens,) of each split, from 0 to `num_classes - 1`; only `meta` may be
            shorter than a window.
        before: The token that is read before a part.
        batch_size: Windows per batch, at most the number of windows in `train`.
        length: Tokens of a window.
        warm: Tokens before a window that warm up the state.
        seed: The run's seed, for the initial weights, the order and the draws.
        characters: Whether tokens are characters; bits per character are then also measured.

    Raises:
        ValueError: An argument is out of range, or a part is too short.
    """

    name: str
    num_classes: int
    network: Callable[..., nn.Module]
    parts: Mapping[Split, Tensor] = field(repr=False)
    before: int
    batch_size: int
    length: int
    warm: int
    seed: int
    characters: bool = False

    def __post_init__(self) -> None:
        if self.length < 1 or self.warm < 0:
            raise ValueError(
                f"{self.name} got length={self.length} and warm={self.warm}; "
                "needed are at least 1 and at least 0"
            )
        if set(self.parts) != set(SPLITS):
            raise ValueError(
                f"{self.name} got parts {sorted(self.parts)}; needed are {', '.join(SPLITS)}"
            )
        for split in SPLITS:
            if split != "meta" and not len(self._windows[split]):
                raise ValueError(
                    f"{self.name} has {len(self.parts[split])} tokens in {split}, less than one "
                    f"window of length={self.length}; raise {split}_size="
                )
        windows = len(self._windows["train"])
        sampling.check_batch_size(self.name, self.batch_size, windows, "windows")
        advice = "choose a language model, such as lstm"
        refuse_other_kind(self.name, self.network, ("num_classes",), advice)

    def model(self) -> nn.Module:
        """Return a new network, a pure function of the seed."""
        with seeds.initial_weights(self.seed):
            return self.network(num_classes=self.num_classes)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy in nats per token, shape ()."""
        inputs, targets = batch
        logits = model(inputs, targets.shape[1])
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return `loss`, `perplexity` and, for characters, `bits_per_character`, of the batch.

        There is no accuracy, because a language model is scored by its loss.
        """
        loss = self.loss(model, batch)
        bits = {"bits_per_character": loss / math.log(2)} if self.characters else {}
        return {"loss": loss, "perplexity": loss.exp(), **bits}

    def num_batches(self, split: Split) -> int:
        """Return the number of batches in one pass over the split."""
        return sampling.num_batches(split, len(self._of(split)), self.batch_size)

    def batch(self, split: Split, index: int, draw: int | None = None) -> Batch:
        """Return (inputs, targets), int64, (batch, warm + length) and (batch, length)."""
        windows = self._of(split)
        if not len(windows):
            raise ValueError(f"{self.name} has no window in split {split!r}; raise {split}_size")
        chosen = sampling.positions(
            split,
            len(windows),
            batch_size=self.batch_size,
            seed=self.seed,
            index=index,
            draw=draw,
        )
        tokens = windows.index_select(0, chosen)
        return tokens[:, :-1].contiguous(), tokens[:, self.warm + 1 :].contiguous()

    @cached_property
    def data_fingerprint(self) -> str:
        """Number of tokens, and a checksum of the parts and of the token before them."""
        parts = [self.parts[split] for split in SPLITS]
        what = f"{sum(map(len, parts)):,} tokens"
        return checksum(what, *parts, torch.tensor([self.before, self.num_classes]))

    def _of(self, split: Split) -> Tensor:
        return sampling.members(self._windows, split)

    @cached_property
    def _windows(self) -> Mapping[Split, Tensor]:
        """For each split, views of its tokens, (windows, warm + 1 + length)."""
        return {split: self._view(self.parts[split]) for split in SPLITS}

    def _view(self, part: Tensor) -> Tensor:
        size = self.warm + 1 + self.length
        tokens = torch.cat((torch.full((self.warm + 1,), self.before), part))
        return tokens.unfold(0, size, self.length) if len(tokens) >= size else part.new_empty(0, 1)
