"""Ctrl-C and SIGTERM: finish the step, save, say how to go on; a second one ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopFlag:
    """Set by the first signal; `train` asks it at every step."""

    signal: int = 0
    speaks: bool = True

    def __call__(self) -> bool:
        """Return whether the run should stop."""
        return self.signal != 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Note the first signal; from then on both signals act as if nobody handled them."""
        self.signal = number
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_DFL)
        if self.speaks:  # by os.write, since a handler may interrupt a print
            with suppress(OSError):  # the terminal may be gone
                os.write(2, b"\nfinishing this step and saving; once more stops at once\n")


@contextmanager
def graceful_stop(*, speaks: bool = True) -> Iterator[StopFlag]:
    """Give a flag that SIGINT and SIGTERM set; leave with 130 or 143 once the run has stopped.

    Args:
        speaks: Say so; of several processes of one run, one does.
    """
    from meta_lr.training.outcome import StoppedError

    flag = StopFlag(speaks=speaks)
    if threading.current_thread() is not threading.main_thread():  # some launchers use threads
        yield flag
        return
    before = {n: signal.signal(n, flag.handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    except StoppedError as stopped:
        if speaks:
            print(
                f"meta-lr: {stopped}, saved in {stopped.folder}; "
                "the same command goes on from there",
                file=sys.stderr,
            )
        raise SystemExit(128 + (flag.signal or signal.SIGINT)) from None  # or another process's
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
