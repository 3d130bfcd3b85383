"""The peak memory of a piece of work in this process, as Linux counts it.

`VmHWM` of /proc/self/status belongs to the address space, so a new program starts at nothing;
`ru_maxrss` would start at the peak of whoever started it. Writing 5 to /proc/self/clear_refs sets
it back to the present size, so a peak is that of the work alone and not of what came before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(act: Callable[[], object]) -> float:
    """Return the largest resident size of this process while it acts, in MB of 2**20 bytes.

    Raises:
        OSError: This is not Linux, or it does not let a process reset its peak.
    """
    CLEAR.write_text("5")
    act()
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    return int(kilobytes) / 1024
