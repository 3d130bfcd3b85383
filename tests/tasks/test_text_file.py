"""Texts from files: words and characters, the four parts, and a text that is learned."""

from __future__ import annotations

import codecs
import functools

import pytest
import torch

from meta_lr.methods.basic import Constant
from meta_lr.tasks import SPLITS, text_file
from meta_lr.tasks.models import LSTMLanguageModel
from meta_lr.tasks.vocabulary import encode, tokenise, vocabulary
from meta_lr.training.loop import train
from tests.texts import TINY

LINES = "the cat sat\nthe <unk> cat\n\nthe end\n"


def test_words_are_what_stands_between_spaces_with_an_end_for_each_line():
    words = tokenise(LINES, "word")
    assert " ".join(words) == "the cat sat <eos> the <unk> cat <eos> <eos> the end <eos>"
    numbers = vocabulary(words, "word")
    assert list(numbers) == ["<unk>", "<eos>", "the", "cat", "end", "sat"]
    assert encode(words, numbers).tolist() == [2, 3, 5, 1, 2, 0, 3, 1, 1, 2, 4, 1]
    few = vocabulary(words, "word", 3)
    assert encode([*words[:3], "dog"], few).tolist() == [2, 0, 0, 0]
    assert tokenise("no end", "word") == ["no", "end", "<eos>"]


def test_characters_are_counted_by_frequency_and_the_line_end_comes_first():
    numbers = vocabulary(tokenise("abba\nbé", "char"), "char")
    assert list(numbers) == ["<unk>", "\n", "b", "a", "é"]
    assert encode("éz\n", numbers).tolist() == [4, 0, 1]


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.v1.txt"
    path.write_text("abcdefghij" * 100 + "\nxyz" + "ab\n" * 9)
    return path


SIZES = {"meta_size": 43, "val_size": 60, "test_size": 57, "length": 10, "batch_size": 4}


def test_a_file_is_cut_into_whole_windows_one_part_after_the_other(book):
    task = text_file(book, TINY, **SIZES)
    assert task.name == "book-characters" and task.characters
    assert [len(task.parts[split]) for split in SPLITS] == [1031 - 150, 40, 60, 50]
    assert task.num_classes == 12  # xyz stand behind the train part
    whole = book.read_text()
    numbers = vocabulary(whole[:881], "char")
    parts = torch.cat([task.parts[split] for split in SPLITS])
    assert torch.equal(parts, encode(whole, numbers))
    assert text_file(book, TINY, **SIZES, seed=4).parts["val"].equal(task.parts["val"])


def test_val_and_test_may_have_files_of_their_own(book, tmp_path):
    (tmp_path / "val").write_text("one b c\n" * 6)
    (tmp_path / "test").write_text("b one\n" * 7)
    words = {"level": "word", "length": 4, "batch_size": 1, "meta_size": 9}
    places = {"val_path": tmp_path / "val", "test_path": tmp_path / "test"}
    book.write_text("a b b c c c\n" * 9)
    task = text_file(book, TINY, **places, **words)
    assert [len(task.parts[split]) for split in SPLITS] == [55, 8, 24, 21]
    assert list(vocabulary(tokenise(book.read_text(), "word"), "word"))[2:] == ["c", "b", "a"]
    assert task.parts["val"][:4].tolist() == [0, 3, 2, 1]
    assert task.num_classes == 5 and task.name == "book-words" and not task.characters
    small = text_file(book, TINY, **places, **words, max_words=3)
    assert small.num_classes == 3 and small.parts["val"][:4].tolist() == [0, 0, 2, 1]
    only_test = text_file(book, TINY, test_path=tmp_path / "test", val_size=8, **words)
    assert [len(only_test.parts[split]) for split in SPLITS] == [47, 8, 8, 21]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "none.txt"}, "no file at path=none.txt .*; needed is a text in UTF-8"),
        ({"test_path": "none.txt"}, "no file at test_path=none.txt"),
        (
            {"val_size": 2000},
            "1031 characters, but meta_size=43 and val_size=2000 and test_size=57",
        ),
        ({"val_size": 5}, "0 tokens in val, less than one window of length=10; raise val_size="),
        ({"meta_size": -1}, "length=10 and meta_size=-1"),
        ({"length": 0}, "length=0"),
        ({"max_words": 9}, "max_words=9 with level=char"),
        ({"max_words": 1, "level": "word"}, "max_words=1 with level=word; needed is 0, or a"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_reason(book, changes, words):
    arguments = {"path": book, **SIZES, **changes}
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        text_file(arguments.pop("path"), TINY, **arguments)


def test_a_byte_order_mark_is_not_part_of_the_text(book, tmp_path):
    plain = text_file(book, TINY, **SIZES)
    marked = tmp_path / "book.txt"
    marked.write_bytes(codecs.BOM_UTF8 + book.read_bytes())
    task = text_file(marked, TINY, **SIZES, test_path=marked)
    assert task.num_classes == plain.num_classes
    assert text_file(marked, TINY, **SIZES).parts["train"].equal(plain.parts["train"])
    assert task.parts["test"][:3].tolist() == plain.parts["train"][:3].tolist()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\x00abc", "it has the byte-order mark of UTF-16"),
        ("abc".encode("utf-16"), "it has the byte-order mark of UTF-16"),
        (codecs.BOM_UTF16_BE + "abc".encode("utf-16-be"), "it has the byte-order mark of UTF-16"),
        ("abc".encode("utf-32"), "it has the byte-order mark of UTF-32"),
        (codecs.BOM_UTF32_BE + "abc".encode("utf-32-be"), "it has the byte-order mark of UTF-32"),
        ("abc".encode("utf-16-le"), "it has NUL characters, as UTF-16 and binary files do"),
        ("abc".encode("utf-16-be"), "it has NUL characters, as UTF-16 and binary files do"),
        (codecs.BOM_UTF8 + b"a\0b", "it has NUL characters, as UTF-16 and binary files do"),
        ("\u00e9t\u00e9".encode("latin-1"), "'utf-8' codec can't decode byte 0xe9 .*"),
    ],
)
@pytest.mark.parametrize("option", ["path", "val_path"])
def test_what_is_no_text_is_refused(book, tmp_path, content, reason, option):
    other = tmp_path / "other.txt"
    other.write_bytes(content)
    places = {"path": book, option: other}
    with pytest.raises(
        ValueError, match=rf"other.txt is no text in UTF-8 \({reason}\); convert it"
    ):
        text_file(places.pop("path"), TINY, **places, **SIZES)


def test_a_regular_text_is_learned_beyond_its_windows(tmp_path):
    path = tmp_path / "pattern.txt"
    path.write_text("aab" * 400)
    changes = {"length": 2, "meta_size": 0, "val_size": 200, "test_size": 200}
    network = functools.partial(LSTMLanguageModel, width=16, layers=1, dropout=0.0)
    losses = [
        train(
            text_file(path, network, warm=warm, **changes),
            functools.partial(torch.optim.Adam, lr=0.01),
            Constant(0.02),
            total_steps=100,
        ).test["last"]["loss"]
        for warm in (0, 8)
    ]
    assert losses[1] < 0.1 < 0.2 < losses[0]  # one character cannot tell which of the a's it is
