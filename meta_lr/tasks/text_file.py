"""A text file as a language task: its parts and its vocabulary."""

from __future__ import annotations

import codecs
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from meta_lr.tasks.base import SPLITS, Split
from meta_lr.tasks.names import name_of
from meta_lr.tasks.text import TextTask
from meta_lr.tasks.vocabulary import LINE_END, Level, encode, tokenise, vocabulary

_Place = str | os.PathLike[str]
_OPTIONS: Mapping[Split, str] = {"train": "path", "val": "val_path", "test": "test_path"}
_UNITS: Mapping[Level, str] = {"char": "characters", "word": "words"}
_MARKS = {  # UTF-32 first, because its mark may begin with that of UTF-16
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "UTF-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


def text_file(
    path: str | os.PathLike[str],
    model: Callable[..., nn.Module],
    *,
    val_path: str | os.PathLike[str] | None = None,
    test_path: str | os.PathLike[str] | None = None,
    level: Level = "char",
    max_words: int = 0,
    length: int = 35,
    warm: int = 35,
    batch_size: int = 32,
    seed: int = 0,
    meta_size: int = 50_000,
    val_size: int = 50_000,
    test_size: int = 50_000,
) -> TextTask:
    """Return the task of modelling the text in a file, such as a novel or the Penn Treebank.

    A text is cut in the order train, meta, val, test. If files for val and test are given, as for
    the Penn Treebank, they are used instead. (The published code of MLR-SNet takes its meta data
    from the validation file; here they are cut from the training text.) The vocabulary is that of
    train; other characters or words are `<unk>`.

    Args:
        path: A text file in UTF-8; a byte-order mark at its start is dropped.
        model: Called as `model(num_classes=...)`, with the number of entries in the vocabulary.
        val_path: The text of `val`; None cuts it from `path`.
        test_path: The text of `test`; None cuts it from `path`.
        level: `char`, or `word`. Words are separated by white space, with `<eos>` after each line.
        max_words: Largest number of entries in a vocabulary of words, the most frequent ones; 0
            keeps all.
        length: Tokens to predict in a window; gradients flow back over the window.
        warm: Tokens before a window that warm up the state.
        batch_size: Windows per batch.
        seed: The run's seed.
        meta_size: Tokens cut from `path` for `meta`. Only whole windows are cut, also for `val`
            and `test`.
        val_size: Tokens cut from `path` for `val`, unless `val_path` is given.
        test_size: Tokens cut from `path` for `test`, unless `test_path` is given.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is no text, too short, or an argument is out of range.
    """
    if max_words and (level == "char" or max_words < 2):
        raise ValueError(
            f"text_file got max_words={max_words} with level={level}; "
            "needed is 0, or a number from 2 on with level=word"
        )
    places: Mapping[Split, _Place | None] = {"train": path, "val": val_path, "test": test_path}
    files: dict[Split, Sequence[str]] = {
        split: tokenise(_read(place, _OPTIONS[split]), level)
        for split, place in places.items()
        if place is not None
    }
    wanted: Mapping[Split, int] = {"meta": meta_size, "val": val_size, "test": test_size}
    sizes: Mapping[Split, int] = {s: size for s, size in wanted.items() if s not in files}
    parts = {**files, **_cut(f"{path}", files["train"], sizes, level, length)}
    numbers = vocabulary(parts["train"], level, max_words)
    return TextTask(
        name=f"{name_of(path)}-{_UNITS[level]}",
        num_classes=len(numbers),
        network=model,
        parts={split: encode(parts[split], numbers) for split in SPLITS},
        before=numbers[LINE_END[level]],
        batch_size=batch_size,
        length=length,
        warm=warm,
        seed=seed,
        characters=level == "char",
    )


def _read(place: _Place, option: str) -> str:
    path = Path(place).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file at {option}={path} ({path.absolute()}); needed is a text in UTF-8"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")  # drops a byte-order mark
    except UnicodeDecodeError as error:
        reason = _foreign_mark(path) or str(error)
        raise ValueError(f"{path} is no text in UTF-8 ({reason}); convert it") from error
    if "\0" in text:
        reason = "it has NUL characters, as UTF-16 and binary files do"
        raise ValueError(f"{path} is no text in UTF-8 ({reason}); convert it")
    return text


def _foreign_mark(path: Path) -> str | None:
    """Return a text about another encoding's byte-order mark at the start of a file, if any."""
    with path.open("rb") as file:
        start = file.read(4)
    found = (name for name, marks in _MARKS.items() if start.startswith(marks))
    return next((f"it has the byte-order mark of {name}" for name in found), None)


def _cut(
    name: str, tokens: Sequence[str], sizes: Mapping[Split, int], level: Level, length: int
) -> dict[Split, Sequence[str]]:
    """Cut whole windows for each of `sizes` from the end, in this order; the rest is `train`."""
    wanted = " and ".join(f"{split}_size={size}" for split, size in sizes.items())
    if length < 1 or any(size < 0 for size in sizes.values()):
        raise ValueError(
            f"{name} got length={length} and {wanted}; needed are 1 or more, and 0 or more"
        )
    taken = {split: size // length * length for split, size in sizes.items()}
    end = len(tokens) - sum(taken.values())
    if end < length:
        raise ValueError(
            f"{name} has {len(tokens)} {_UNITS[level]}, but {wanted} take {sum(taken.values())} "
            f"of them, and train needs at least length={length}; make them smaller"
        )
    parts: dict[Split, Sequence[str]] = {"train": tokens[:end]}
    for split in SPLITS[1:]:
        size = taken.get(split)
        if size is not None:
            parts[split] = tokens[end : end + size]
            end += size
    return parts
