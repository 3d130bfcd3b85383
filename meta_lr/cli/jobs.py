"""A command under Hydra: compose its config, then run it once, or once per job of a sweep."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from meta_lr.cli import sweep
from meta_lr.cli.arguments import overrides_of, refuse_other_experiments, refuse_unknown_flags
from meta_lr.cli.errors import explain_composition, is_no_memory, is_too_large, one_line
from meta_lr.cli.job_result import JobResult
from meta_lr.cli.options import chosen_groups, comments, names, options
from meta_lr.cli.overrides import readable
from meta_lr.cli.own_options import refuse_own_misfits
from meta_lr.cli.places import choices, conf_dir, fingerprint
from meta_lr.cli.second_folder import refuse_shared
from meta_lr.cli.sweep_table import table
from meta_lr.visible import visible

Command = Callable[[DictConfig, Path], JobResult]


class RefusedError(ValueError):
    """A user's mistake that has been put into one line."""


@dataclass
class _Jobs:
    """Runs the job or jobs of one call; a job of a sweep may run in another process."""

    command: str
    overrides: list[str]
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
            self.result = self.run(cfg, folder)
        except (ValueError, TypeError, OSError) as error:
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
                result = self.run(cfg, folder)
            except (ValueError, TypeError, OSError) as error:
                print(f"meta-lr: job {number}: {one_line(error)}", file=sys.stderr)
        job = sweep.Job(number, tuple(asked), _short(Path(conf.sweep.dir)), folder, result)
        return sweep.note(job, direction, self.process)

    def run(self, cfg: DictConfig, folder: Path) -> JobResult:
        """Run a job in its folder."""
        try:
            with _told_in_one_line(self.command):
                refuse_own_misfits(cfg, chosen_groups(HydraConfig.get()))
                return _command(self.command)(cfg, folder)
        except (ValueError, TypeError, OSError) as error:
            if isinstance(error, OSError) and error.errno and not error.filename:
                error.filename = str(folder)  # a write that failed does not say where
            with suppress(OSError):  # a folder in which nothing came about
                folder.rmdir()
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
    sweep.begin()
    jobs = _Jobs(command, overrides_of(arguments))
    try:
        with _as_process(f"meta-lr {command}", arguments), _told_in_one_line(command):
            refuse_shared(command, arguments)
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=name)(jobs)()
    except (ValueError, TypeError, OSError) as error:  # such as Optuna's, if no job has a score
        if not sweep.ended():
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
        print(table(jobs))
    if len(jobs) > failed and command not in ("transfer", "check-hypergrad"):  # own report, none
        print(f"all runs together: meta-lr report {shlex.quote(str(jobs[0].sweep))}")
    if failed:
        print(f"meta-lr: {failed} of {len(jobs)} jobs failed", file=sys.stderr)
    return 1 if failed else 0


def _speaks() -> bool:
    """Return whether this is the process that prints, of those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _command(name: str) -> Command:
    return import_module(f"meta_lr.cli.{name.replace('-', '_')}").command


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
    warnings.formatwarning = lambda message, *_, **__: (
        f"meta-lr: warning: {visible(str(message))}\n"
    )
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
        if not is_no_memory(error) and not is_too_large(error):
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
