"""`meta-lr range-test`: sweep the rate, suggest a range as overrides, draw it, keep it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from meta_lr.cli import asked, parts
from meta_lr.cli.signals import StopFlag, graceful_stop
from meta_lr.cli.sweep import JobResult
from meta_lr.lrbench.range_test import SHORTEST, RangeTest, highest, refuse, suggest
from meta_lr.methods.sweep import Sweep
from meta_lr.records.reader import Record, read_record
from meta_lr.report.files import write_file, write_pictures
from meta_lr.report.search_figures import range_picture

FORMAT = 1
RESULT = "range.json"


def command(cfg: DictConfig, folder: Path) -> JobResult:
    """Sweep once per seed, suggest a range, draw and keep it; there is no score.

    Raises:
        ValueError: An option is out of range, or the sweeps show no range.
    """
    asked.refuse_lr("range-test", "raises the rate itself; leave it out")
    if parts.whole(cfg, "record.every", least=1) > 1:
        raise ValueError(
            f"record.every={cfg.record.every} is not for range-test, which reads each loss; "
            "leave it out"
        )
    with graceful_stop() as stop:
        found, place = swept(cfg, folder, stop)
    print("\n".join(_lines(found)))
    print(f"figure: {place}.svg, .png; numbers: {folder / RESULT}")
    return JobResult()


def swept(cfg: DictConfig, folder: Path, stop: StopFlag) -> tuple[RangeTest, Path]:
    """Return what the sweeps that `cfg` describes show, and where their figure is.

    Raises:
        ValueError: An option is out of range, or the sweeps show no range.
    """
    sweep, safety = _sweep(cfg), parts.positive(cfg, "safety")
    refuse(steps=parts.whole(cfg, "total_steps", least=SHORTEST), safety=safety)
    num, first = parts.whole(cfg, "sweeps", least=1), parts.whole(cfg, "seed", least=0)
    records = list(_records(cfg, sweep, range(first, first + num), folder, stop))
    found = suggest(records, smoothing=sweep.smoothing, safety=safety)
    picture = range_picture(found)
    write_pictures([picture], folder)
    facts = {name: records[0].header[name] for name in ("task", "model", "optimizer")}
    numbers = {name: getattr(found, name) for name in ("k0", "k1", "diverged", "cost")}
    curves = {name: getattr(found, name).tolist() for name in ("rates", "losses", "smoothed")}
    result = json.dumps({"format": FORMAT, **facts, **numbers, **curves}) + "\n"
    write_file(folder / RESULT, result.encode())
    return found, folder / picture.name


def _sweep(cfg: DictConfig) -> Sweep:
    values = {name: cfg[name] for name in ("low", "high", "smoothing")}
    if values["high"] is None:
        values["high"] = highest(parts.build(cfg.optimizer))
    return parts.build(OmegaConf.create({"_target_": "meta_lr.methods.sweep.Sweep", **values}))


def _records(
    cfg: DictConfig, sweep: Sweep, seeds: range, folder: Path, stop: StopFlag
) -> Iterator[Record]:
    """Yield the record of each seed's sweep, made, resumed or only read."""
    for seed in seeds:
        own = parts.at(cfg, seed)
        place = folder / f"seed-{seed}"
        facts = parts.header(own, "range-test", "range_test")
        parts.run(own, parts.build(own.task), sweep, place, header=facts, stop=stop, test=False)
        yield read_record(place)


def _lines(found: RangeTest) -> Iterator[str]:
    """Yield what to say: the range, what it cost, and the overrides that take it up."""
    ended = f", up to the rate {found.rates[-1]:.3g}, where it diverged" if found.diverged else ""
    yield f"rates worth a try: {found.k0:.3g} to {found.k1:.3g}"
    yield f"  found for {found.cost:,.0f} steps{ended}"
    yield f"  policies of LRBench, such as lr=triexp:  lr.k0={found.k0:.3g} lr.k1={found.k1:.3g}"
    yield f"  cosine, one_cycle and their kin:         lr.peak={found.k1:.3g}"
