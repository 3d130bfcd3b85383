"""The peak memory of a call in this process, as Linux counts it.

`VmHWM` of /proc/self/status belongs to the address space, so a new program starts at zero.
`ru_maxrss` would start at the peak of the parent process. Writing 5 to /proc/self/clear_refs resets
`VmHWM` to the current size. So the peak is that of the call alone, not of earlier work.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(act: Callable[[], object]) -> float:
    """Return the largest resident size of this process during a call, in MB of 2**20 bytes.

    Raises:
        OSError: This is not Linux, or it does not let a process reset its peak.
    """
    CLEAR.write_text("5")
    act()
    (kilobytes,) = re.findall(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    return int(kilobytes) / 1024
