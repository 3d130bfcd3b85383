"""Provenance of a result besides its configuration: code, versions, threads, hardware."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from meta_lr.records.reader import FORMAT
from meta_lr.records.rows import Row


def provenance(device: torch.device) -> Row:
    """Return the provenance of a result besides its configuration, for the header."""
    return {
        "format": FORMAT,
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "meta_lr": _own_version(),
        },
        "threads": torch.get_num_threads(),
        "hardware": _hardware(device),
    }


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _own_version() -> str | None:
    try:
        return version("meta_lr")
    except PackageNotFoundError:
        return None


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
