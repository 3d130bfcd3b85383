"""A command under Hydra: compose its config, then run it once, or once per job of a sweep."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from meta_lr.cli.arguments import refuse_other_experiments, refuse_unknown_flags
from meta_lr.cli.errors import explain_composition, is_no_memory, one_line
from meta_lr.cli.options import chosen_groups, comments, names, options
from meta_lr.cli.overrides import readable
from meta_lr.cli.own_options import refuse_own_misfits
from meta_lr.cli.places import choices, conf_dir, fingerprint
from meta_lr.cli.second_folder import refuse_shared

Command = Callable[[DictConfig, Path], int]


class RefusedError(ValueError):
    """A user's mistake that has been put into one line."""


@dataclass
class _Jobs:
    """What became of the jobs of one call."""

    command: str
    done: Command
    codes: list[int] = field(default_factory=list)
    error: Exception | None = None
    failed: int = 0
    sweep: Path | None = None  # the folder of the folders of its jobs
    process: int = field(default_factory=os.getpid)

    def __call__(self, cfg: DictConfig) -> None:
        """Run one job; a single run's mistake is kept for later, a sweep's is told and counted."""
        conf = HydraConfig.get()
        folder = _short(Path(conf.runtime.output_dir))
        sweep = conf.mode == RunMode.MULTIRUN
        if sweep:
            self.sweep = _short(Path(conf.sweep.dir))
            print(f"[{conf.job.num}] {' '.join(conf.overrides.task)}", flush=True)
        try:
            with _told_in_one_line(self.command):
                refuse_own_misfits(cfg, chosen_groups(conf))
                code = self.done(cfg, folder)
                self.codes.append(0 if sweep else code)  # a sweep takes a run that diverged
        except (ValueError, TypeError, OSError) as error:
            if isinstance(error, OSError) and error.errno and not error.filename:
                error.filename = str(folder)  # a write that failed does not say where
            with suppress(OSError):  # a folder in which nothing came about
                folder.rmdir()
            if not sweep:
                self.error = error  # raised, Hydra would print lines of its own
                return
            self.failed += 1
            print(f"meta-lr: job {conf.job.num}: {one_line(error)}", file=sys.stderr)
            if os.getpid() != self.process:  # a launcher that starts processes does not count
                raise


def run(command: str, arguments: list[str]) -> int:
    """Run the command as `arguments` say; return 0, 3 if it diverged, 1 if a job failed.

    Args:
        command: Such as "meta-train"; its function is `meta_lr.cli.meta_train.command`, its config
            `conf/meta_train.yaml`.
        arguments: Overrides and Hydra's flags.

    Raises:
        ValueError: An override is wrong, or the run itself refused something.
    """
    refuse_unknown_flags(arguments)
    arguments = readable(arguments)
    refuse_other_experiments(command, arguments)
    name = command.replace("-", "_")
    OmegaConf.register_new_resolver("fingerprint", fingerprint, replace=True)
    OmegaConf.register_new_resolver("options", options, replace=True)
    jobs = _Jobs(command, lambda cfg, folder: _command(name)(cfg, folder))
    with _as_process(f"meta-lr {command}", arguments), _told_in_one_line(command):
        refuse_shared(command, arguments)
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(jobs)()
    if jobs.error is not None:
        raise jobs.error
    if jobs.sweep is not None and jobs.codes and command != "transfer":  # that has its own report
        print(f"all runs together: meta-lr report {jobs.sweep}")
    if jobs.failed:
        total = jobs.failed + len(jobs.codes)
        print(f"meta-lr: {jobs.failed} of {total} jobs failed", file=sys.stderr)
        return 1
    return jobs.codes[0] if len(jobs.codes) == 1 else 0


def _command(name: str) -> Command:
    return import_module(f"meta_lr.cli.{name}").command


def _short(folder: Path) -> Path:
    """Return `folder` relative to the working directory, if it is inside."""
    with suppress(ValueError):
        return folder.relative_to(Path.cwd())
    return folder


@contextmanager
def _as_process(program: str, arguments: list[str]) -> Iterator[None]:
    """Let Hydra see these arguments, leave errors to us, and show a warning as one line.

    A log file that cannot be written is passed over: the record tells the user, and stops the run.
    """
    argv, full, shown = sys.argv, os.environ.get("HYDRA_FULL_ERROR"), warnings.formatwarning
    complains, logging.raiseExceptions = logging.raiseExceptions, False
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [program, *arguments], "1"
    warnings.formatwarning = lambda message, *_, **__: f"meta-lr: warning: {message}\n"
    try:
        yield
    finally:
        sys.argv, warnings.formatwarning = argv, shown
        _close_log_files()
        logging.raiseExceptions = complains
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full


@contextmanager
def _told_in_one_line(command: str) -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise, and a lack of memory, into a ValueError of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        line = explain_composition(error, command, lambda: _options(command), _comment, choices)
        raise RefusedError(line) from error
    except (MemoryError, RuntimeError) as error:
        if not is_no_memory(error):
            raise
        raise RefusedError(one_line(error)) from error


def _close_log_files() -> None:
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
        root.removeHandler(handler)
        with suppress(OSError):
            handler.close()


def _options(command: str) -> Iterator[str]:
    """Yield the groups, and the dotted names of the command's options without overrides."""
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield from GlobalHydra.instance().config_loader().list_groups("")
        yield from names(hydra.compose(command.replace("-", "_")))


def _comment(key: str) -> str:
    """Return what the config files say of an option, nothing outside a job."""
    return comments().get(key, "") if GlobalHydra.instance().is_initialized() else ""
