"""Ctrl-C and SIGTERM: finish the step, save, say how to go on; a second one ends at once.

The launcher of a sweep may handle a signal of its own, as submitit does: SIGUSR2 says that the time
of a job of Slurm is nearly over, or that another job needs its place. Then the run saves first, and
the launcher's own handler puts the job into the queue again.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

_STOPS = (signal.SIGINT, signal.SIGTERM)
_OF_LAUNCHERS = (signal.SIGUSR1, signal.SIGUSR2)


@dataclass
class StopFlag:
    """Set by the first signal; `train` asks it at every step.

    Attributes:
        signal: The last signal; 0 before there is one.
        launchers: The last one that is the launcher's own; 0 without one.
        speaks: Whether to tell the user.
    """

    signal: int = 0
    launchers: int = 0
    speaks: bool = True

    def __call__(self) -> bool:
        """Return whether the run should stop."""
        return self.signal != 0

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal; after the first SIGINT or SIGTERM, both act as if nobody handled them."""
        self.signal = number
        if number in _STOPS:
            for other in _STOPS:
                signal.signal(other, signal.SIG_DFL)
        else:
            self.launchers = number
        if self.speaks:  # by os.write, since a handler may interrupt a print
            with suppress(OSError):  # the terminal may be gone
                os.write(2, b"\nfinishing this step and saving; once more stops at once\n")


@contextmanager
def graceful_stop(*, speaks: bool = True) -> Iterator[StopFlag]:
    """Give a flag that SIGINT and SIGTERM set; leave with 130 or 143 once the run has stopped.

    A signal that a launcher handles sets the flag too; once the run has stopped, it is passed on.

    Args:
        speaks: Say so; of several processes of one run, one does.
    """
    from meta_lr.training.outcome import StoppedError

    flag = StopFlag(speaks=speaks)
    if threading.current_thread() is not threading.main_thread():  # some launchers use threads
        yield flag
        return
    launchers = [n for n in _OF_LAUNCHERS if callable(signal.getsignal(n))]
    before = {n: signal.signal(n, flag.handle) for n in (*_STOPS, *launchers)}
    stopped = None
    try:
        yield flag
    except StoppedError as error:
        stopped = error
        if speaks:
            print(
                f"meta-lr: {stopped}, saved in {stopped.folder}; "
                "the same command goes on from there",
                file=sys.stderr,
            )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped and flag.launchers:
        signal.raise_signal(flag.launchers)  # its handler leaves
    if stopped:
        raise SystemExit(128 + (flag.signal or signal.SIGINT))  # 0: another process was asked
