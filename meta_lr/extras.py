"""Optional packages, and the extra of this package that installs each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# Extra -> the modules that come with it.
EXTRAS = {
    "train": (
        "PIL",
        "higher",
        "hydra",
        "jinja2",
        "matplotlib",
        "omegaconf",
        "rich",
        "scipy",
        "sklearn",
        "torchvision",
        "wandb",
    ),
    "search": ("optuna",),
    "cluster": ("hydra_joblib_launcher", "hydra_submitit_launcher"),
}


class MissingPackageError(ModuleNotFoundError):
    """An optional package is missing; an extra of this package installs it."""


@contextmanager
def explained() -> Iterator[None]:
    """Name the extra to install if the import of an optional package fails inside the block.

    Raises:
        MissingPackageError: The package is missing; the message names the extra.

    >>> with explained():
    ...     raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
    Traceback (most recent call last):
    meta_lr.extras.MissingPackageError: optuna is not installed; ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
        if extra is None or isinstance(error, MissingPackageError):
            raise
        raise MissingPackageError(
            f"{module} is not installed; it comes with the extra {extra}: "
            f"pip install 'meta_lr[{extra}]', or '.[{extra}]' in a checkout",
            name=module,
        ) from error
