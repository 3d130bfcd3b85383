"""Text as numbers: characters or words, and their vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Level = Literal["char", "word"]

UNKNOWN = "<unk>"
"""Entry 0: tokens that are not in the training text, or too rare for a limited vocabulary."""

LINE_END: Mapping[Level, str] = {"char": "\n", "word": "<eos>"}
"""Entry 1: the end of a line."""


def tokenise(text: str, level: Level) -> Sequence[str]:
    """Return the characters, or the words between white space, with `<eos>` after each line.

    The files of the Penn Treebank contain `<unk>`, so they give their usual 10,000 entries.
    """
    if level == "char":
        return text
    lines = text.removesuffix("\n").split("\n")
    return [token for line in lines for token in (*line.split(), LINE_END[level])]


def vocabulary(tokens: Sequence[str], level: Level, largest: int = 0) -> dict[str, int]:
    """Return the number of each entry: unknown, line end, then the tokens from frequent to rare.

    Args:
        tokens: The tokens of the training text.
        level: Whether the tokens are characters or words.
        largest: Largest number of entries, including the first two; 0 for no limit.
    """
    first = (UNKNOWN, LINE_END[level])
    counts = Counter(tokens)
    others = sorted(counts.keys() - set(first), key=lambda token: (-counts[token], token))
    entries = islice((*first, *others), largest or None)
    return {token: number for number, token in enumerate(entries)}


def encode(tokens: Sequence[str], numbers: Mapping[str, int]) -> Tensor:
    """Return the tokens as int64, (tokens,); a token outside the vocabulary is 0."""
    known = (numbers.get(token, 0) for token in tokens)
    return torch.from_numpy(np.fromiter(known, dtype=np.int64, count=len(tokens)))
