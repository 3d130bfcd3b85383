"""What a command prints: no name can steer the terminal, and no lost terminal ends a run."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from meta_lr.visible import visible

_NOBODY_READS = {errno.EPIPE, errno.EIO}  # a reader that stopped, a terminal that was closed


class Lasting:
    """A text stream that ends no command: once it cannot be written, its text goes nowhere.

    Args:
        stream: Where the text goes.
        tell: Called once with the error, unless it only means that nobody reads any more.
    """

    def __init__(self, stream: TextIO, tell: Callable[[OSError], None]) -> None:
        self._stream, self._tell, self._lost = stream, tell, False

    def write(self, text: str) -> int:
        """Write the text, if that can be done."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what waits, if that can be done."""
        self._try(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, act: Callable[[], object]) -> None:
        if self._lost:
            return
        try:
            act()
        except OSError as error:
            self._lost = True
            _point_nowhere(self._stream)
            if error.errno not in _NOBODY_READS:
                self._tell(error)


class Visible:
    """A text stream that writes control characters as escapes; `below` is the stream without."""

    def __init__(self, below: Lasting) -> None:
        self.below = below

    def write(self, text: str) -> int:
        """Write the text."""
        self.below.write(visible(text, keep="\n\t"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.below, name)


@contextmanager
def lasting_output() -> Iterator[list[OSError]]:
    """Let the standard streams outlast their readers; give the errors of standard output.

    Text on standard output is made visible. Errors are printed on standard error too.
    """
    errors: list[OSError] = []
    with ExitStack() as stack:
        _fill_closed()
        out = sys.stdout or stack.enter_context(_nowhere())
        err = sys.stderr or stack.enter_context(_nowhere())
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="backslashreplace")  # where it is not UTF-8

        def tell(error: OSError) -> None:
            errors.append(error)
            said = f"standard output cannot be written ({error.strerror or error})"
            print(f"meta-lr: {said}; nothing more is shown", file=sys.stderr)

        stack.enter_context(redirect_stderr(cast(TextIO, Lasting(err, lambda error: None))))
        shown = Visible(Lasting(out, tell))
        stack.enter_context(redirect_stdout(cast(TextIO, shown)))
        try:
            yield errors
        finally:
            shown.flush()
            sys.stderr.flush()


def drawing() -> TextIO:
    """Return standard output for what draws with control characters, such as a progress bar."""
    return getattr(sys.stdout, "below", sys.stdout)


def _point_nowhere(stream: TextIO) -> None:
    """Give what still waits in the stream somewhere to go, or Python complains when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _fill_closed() -> None:
    """Open the standard streams that were closed: the next file would take their number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
