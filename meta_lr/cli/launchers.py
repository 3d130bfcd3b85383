"""Launchers of sweeps in other processes: which package is missing, and what they raise."""

from __future__ import annotations

import re
from traceback import walk_tb

_PACKAGES = ("submitit", "joblib")


class LauncherError(ValueError):
    """A job was lost, or could not be started."""


def missing(error: Exception) -> ModuleNotFoundError | None:
    """Return what is missing if Hydra did not find a launcher that the extra `cluster` installs."""
    found = re.search(rf"hydra/launcher/({'|'.join(_PACKAGES)})", str(error))
    return ModuleNotFoundError(name=f"hydra_{found[1]}_launcher") if found else None


def raised(error: Exception) -> bool:
    """Return whether a launcher raised the error, not a job."""
    modules = [frame.f_globals["__name__"] for frame, _ in walk_tb(error.__traceback__)]
    places = [type(error).__module__, *modules[-1:]]
    return any(package in place for place in places for package in _PACKAGES)


def told(error: Exception) -> str:
    """Return one line for what a launcher raised, without the log of the job."""
    first = re.split(r"\n-{9}|\nNo error stream|\. ", str(error))[0]
    said = " ".join(first.split()) or type(error).__name__
    return f"{said}; other jobs may go on; the same command goes on where they ended"
