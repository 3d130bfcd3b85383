"""Warnings of a block of code: how many, their text, and the line of code that each one names."""

import linecache
import warnings


class Warned:
    """Keeps the warnings that a block raises."""

    def __enter__(self):
        self._catch = warnings.catch_warnings(record=True)
        self._caught = self._catch.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, *error):
        self._catch.__exit__(*error)

    @property
    def texts(self):
        return [str(warning.message) for warning in self._caught]

    @property
    def code(self):
        """The line of source code that each warning names."""
        return [linecache.getline(w.filename, w.lineno).strip() for w in self._caught]


def one(warned, part, code):
    """Expect exactly one warning, short and on one line, that names this line of code."""
    (text,) = warned.texts
    assert part in text
    assert len(text) <= 300
    assert "\n" not in text
    assert warned.code == [code]
