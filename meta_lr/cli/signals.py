"""Ctrl-C and SIGTERM: finish the step, save, say how to go on; a second one ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopFlag:
    """Set by the first signal; `train` asks it at every step."""

    signal: int = 0

    def __call__(self) -> bool:
        """Return whether the run should stop."""
        return self.signal != 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Note the first signal; from then on both signals act as if nobody handled them."""
        self.signal = number
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_DFL)
        # os.write, since a handler may interrupt a print
        os.write(2, b"\nfinishing this step and saving; once more stops at once\n")


@contextmanager
def graceful_stop() -> Iterator[StopFlag]:
    """Give a flag that SIGINT and SIGTERM set; leave with 130 or 143 once the run has stopped."""
    from meta_lr.training.outcome import StoppedError

    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():  # some launchers use threads
        yield flag
        return
    before = {n: signal.signal(n, flag.handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    except StoppedError as stopped:
        print(
            f"meta-lr: stopped after {stopped.step} steps, saved in {stopped.folder}; "
            "the same command goes on from there",
            file=sys.stderr,
        )
        raise SystemExit(128 + flag.signal) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
