"""A command under Hydra: compose its config, then run it once, or once per job of a sweep."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from meta_lr.cli import launchers, sweep
from meta_lr.cli.checks import refuse_wrong_values
from meta_lr.cli.conf_files import ConfFiles, conf_dir, merged
from meta_lr.cli.errors import is_no_memory, is_too_large, of_hydra, one_line
from meta_lr.cli.options import comments
from meta_lr.cli.overrides import readable
from meta_lr.cli.places import fingerprint
from meta_lr.cli.second_folder import refuse_shared
from meta_lr.cli.sweep import JobResult
from meta_lr.extras import MissingPackageError
from meta_lr.visible import visible

MISTAKES = (ValueError, TypeError, OSError, MissingPackageError)  # what a job says in one line


@dataclass
class _Jobs:
    """Runs the job or jobs of one call; a job of a sweep may run in another process."""

    command: str
    overrides: list[str]
    files: ConfFiles
    result: JobResult | None = None  # of a single run
    error: Exception | None = None
    process: str = field(default_factory=sweep.this_process)

    def __call__(self, cfg: DictConfig) -> Any:
        """Run one job; return its score, which a sweeper may ask for."""
        conf = HydraConfig.get()
        folder = _short(Path(conf.runtime.output_dir))
        if conf.mode == RunMode.MULTIRUN:
            return self.one_of_many(cfg, conf, folder)
        try:
            self.result = self.run(cfg, conf, folder)
        except Exception as error:
            self.error = error  # raised, Hydra would print lines of its own
        return None

    def one_of_many(self, cfg: DictConfig, conf: HydraConf, folder: Path) -> Any:
        """Run a job of a sweep; if it fails, say why, and let the sweep go on."""
        number, asked, result = conf.job.num + 1, conf.overrides.task, None
        direction = sweep.direction(conf)
        if _speaks():
            total = sweep.num_jobs(conf, self.overrides)
            of_all = f" of {total}" if total else ""
            print(f"job {number}{of_all}: {visible(' '.join(asked))}", flush=True)
        elsewhere = sweep.this_process() != self.process
        with sweep.numbered(number) if elsewhere else nullcontext():
            try:
                result = self.run(cfg, conf, folder)
            except MISTAKES as error:
                print(f"meta-lr: job {number}: {one_line(error)}", file=sys.stderr)
        job = sweep.Job(number, tuple(asked), _short(Path(conf.sweep.dir)), folder, result)
        return sweep.note(job, direction, self.process)

    def run(self, cfg: DictConfig, conf: HydraConf, folder: Path) -> JobResult:
        """Run a job in its folder; its values are checked before torch is imported."""
        try:
            with _told_in_one_line():
                parts = self.files.parts(self.command, conf.overrides.task)
                defaults = {k: v for k, v in merged(parts).items() if k != "hydra"}
                refuse_wrong_values(cfg, defaults, comments(parts))
                module = import_module(f"meta_lr.cli.{self.command.replace('-', '_')}")
                return module.command(cfg, folder)
        except MISTAKES as error:
            if isinstance(error, OSError) and error.errno and not error.filename:
                error.filename = str(folder)  # a write that failed does not say where
            with suppress(OSError):  # a folder in which nothing came about
                folder.rmdir()
            raise


def run(command: str, asked: Namespace, files: ConfFiles) -> int:
    """Run the command as `asked`; return 0, 3 if it diverged, 1 if a job failed.

    The function of "meta-train" is `meta_lr.cli.meta_train.command`, its config
    `conf/meta_train.yaml`.

    Raises:
        ValueError: An override is wrong, or the run itself refused something.
    """
    overrides = readable(asked.overrides)
    many = asked.multirun or "hydra.mode=MULTIRUN" in overrides
    many = many and not (asked.cfg or asked.info)
    sweep.begin()
    jobs = _Jobs(command, overrides, files)
    try:
        with _quiet(), _told_in_one_line():
            if many:
                refuse_shared(command, overrides)
            through_hydra(command, [*_flags(asked), *overrides], jobs)
            if many and not sweep.ended():
                raise ValueError("the sweep has no job; name at least one value")
    except MISTAKES as error:  # such as Optuna's, if no job has a score
        if not sweep.ended() and not isinstance(error, launchers.LauncherError):
            raise
        print(f"meta-lr: the sweep ended early: {one_line(error)}", file=sys.stderr)
        return max(1, _tell(command, sweep.ended()))
    if jobs.error is not None:
        raise jobs.error
    return _tell(command, sweep.ended()) if jobs.result is None else jobs.result.code


def _tell(command: str, jobs: Sequence[sweep.Job]) -> int:
    """Print the table of a sweep's jobs; return 1 if one failed, 0 also if one diverged."""
    failed = sum(job.result is None for job in jobs)
    if len(jobs) > 1 and _speaks():
        from meta_lr.cli.sweep_table import table

        print(table(jobs))
    if len(jobs) > failed and command not in ("transfer", "check-hypergrad"):  # own report, none
        print(f"all runs together: meta-lr report {shlex.quote(str(jobs[0].sweep))}")
    if failed:
        print(f"meta-lr: {failed} of {len(jobs)} jobs failed", file=sys.stderr)
    return 1 if failed else 0


def _speaks() -> bool:
    """Return whether this is the process that prints, of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _short(folder: Path) -> Path:
    """Return `folder` relative to the working directory, if it is inside."""
    with suppress(ValueError):
        return folder.relative_to(Path.cwd())
    return folder


def _flags(asked: Namespace) -> list[str]:
    """Return the flags as Hydra takes them: what only shows something comes before a sweep."""
    names = ["package", "config_dir"]
    names += ["cfg"] if asked.cfg else ["info"] if asked.info else []
    pairs = [(name.replace("_", "-"), getattr(asked, name)) for name in names]
    flags = [f"--{name}={value}" for name, value in pairs if value]
    alone = [] if asked.cfg or asked.info or not asked.multirun else ["--multirun"]
    return [*flags, *alone, *(["--resolve"] if asked.resolve else [])]


def through_hydra(command: str, arguments: Sequence[str], job: Callable[[DictConfig], Any]) -> None:
    """Let Hydra do what `arguments` ask for, with the config of a command and its job."""
    OmegaConf.register_new_resolver("fingerprint", fingerprint, replace=True)
    before = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = ["meta-lr", *arguments], "1"  # 1: it raises
    try:
        hydra.main(str(conf_dir()), command.replace("-", "_"), version_base="1.3")(job)()
    finally:
        sys.argv, full = before
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Show a warning as one line, and leave no log file open.

    A log file that cannot be written is passed over: the record tells the user, and stops the run.
    """
    shown, complains = warnings.formatwarning, logging.raiseExceptions
    warnings.formatwarning = lambda message, *_, **__: (
        f"meta-lr: warning: {visible(str(message))}\n"
    )
    logging.raiseExceptions = False
    try:
        yield
    finally:
        warnings.formatwarning = shown
        root = logging.getLogger()
        for handler in [h for h in root.handlers if isinstance(h, logging.FileHandler)]:
            root.removeHandler(handler)
            with suppress(OSError):
                handler.close()
        logging.raiseExceptions = complains


@contextmanager
def _told_in_one_line() -> Iterator[None]:
    """Turn what Hydra and OmegaConf raise, and a lack of memory, into a ValueError of one line."""
    try:
        yield
    except MissingConfigException as error:
        raise launchers.missing(error) or ValueError(of_hydra(error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(of_hydra(error)) from error
    except (MemoryError, RuntimeError) as error:
        if launchers.raised(error):
            raise launchers.LauncherError(launchers.told(error)) from error
        if not is_no_memory(error) and not is_too_large(error):
            raise
        raise ValueError(one_line(error)) from error
