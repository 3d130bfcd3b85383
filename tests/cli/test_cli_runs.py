"""A command's runs: skipped or resumed when repeated, stopped by signals, swept, named."""

import contextlib
import re
import resource
import shutil
import signal
from pathlib import Path

import pytest

from meta_lr.cli import conf_files, places
from meta_lr.cli.main import main
from meta_lr.records.reader import read_record, read_rows
from tests.commands import SMALL, outcome, own_place, runs, timeless, write_checkpoint


@pytest.fixture
def place(tmp_path, monkeypatch):
    return own_place(tmp_path, monkeypatch)


def test_a_command_that_is_repeated_is_skipped(place, capsys):
    first = outcome(capsys, "train", *SMALL)
    folder = runs(place)[0]
    before = (folder / "records.jsonl").read_bytes()
    again = outcome(capsys, "train", *SMALL)
    assert first[0] == again[0] == 0
    assert "step 10/30" in first[1] and "step 10/30" not in again[1]
    assert "was finished before" in again[1]
    assert runs(place) == [folder]
    assert (folder / "records.jsonl").read_bytes() == before


def test_a_run_leaves_a_header_that_says_what_was_run(place, capsys):
    outcome(capsys, "train", "task=digits", "lr=cosine", "lr.peak=0.2", "total_steps=4", "seed=3")
    header = read_record(runs(place)[0]).header
    assert (header["command"], header["method"], header["model"]) == ("train", "cosine", "mlp")
    assert header["config"]["lr"]["peak"] == 0.2
    assert header["config"]["task"]["seed"] == header["seed"] == 3


def test_a_run_that_diverges_stops_keeps_its_record_and_exits_with_3(place, capsys):
    code, out, _ = outcome(capsys, "train", *SMALL, "lr.peak=1e30")
    rows = read_rows(runs(place)[0])
    assert code == 3
    assert rows[-1]["status"].startswith("diverged at step ")
    assert f"constant on quadratic, seed 0:\n  {rows[-1]['status']}: the loss is not finite" in out


@contextlib.contextmanager
def interrupting(folder, *, number):
    """A logger that sends a signal to its own process at the first evaluation."""

    def listen(row):
        if row["kind"] == "eval" and row["step"] == 10:
            signal.raise_signal(number)

    yield listen


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_same_command_goes_on(place, capfd, number, code):
    logger = [
        "logger._target_=tests.cli.test_cli_runs.interrupting",
        f"+logger.number={int(number)}",
    ]
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(["train", *SMALL, *logger]) == code
    folder = runs(place)[0]
    err = capfd.readouterr().err.splitlines()
    assert err[-2] == "finishing this step and saving; once more stops at once"
    assert re.fullmatch(
        rf"meta-lr: stopped after 1\d steps, saved in {folder.relative_to(place)}; "
        "the same command goes on from there",
        err[-1],
    )
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers

    assert main(["train", *SMALL]) == 0
    resumed = timeless(folder)
    shutil.rmtree(folder)
    assert main(["train", *SMALL]) == 0
    assert resumed == timeless(folder)


@contextlib.contextmanager
def little_room(size):
    """Let no file of this process grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("what", "options", "size"),
    [
        ("", ["task=quadratic", "total_steps=200", "save_every=200"], 10_000),  # the record
        ("/state.pt", ["task=digits", "total_steps=8", "save_every=2"], 50_000),
    ],
)
def test_when_there_is_room_again_the_same_command_goes_on(place, capsys, what, options, size):
    arguments = ["train", "lr=constant", *options]
    with little_room(size):
        code, _, err = outcome(capsys, *arguments)
    folder = runs(place)[0]
    assert code == 2
    assert err == (
        f"meta-lr: {folder.relative_to(place)}{what}: the file may not grow any further; "
        "make room, and the same command goes on\n"
    )
    assert not (folder / "state.pt").exists() and not [*folder.glob(".*")]
    code, out, _ = outcome(capsys, *arguments)
    assert code == 0
    assert re.search(r"finished after (8|200) steps", out)


def test_a_second_signal_is_not_handled():
    from meta_lr.cli.signals import graceful_stop

    before = signal.getsignal(signal.SIGTERM)
    with graceful_stop() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


# --------------------------------------------------------------------------------------- sweeps


def test_a_sweep_goes_on_after_a_bad_job_and_is_skipped_when_repeated(place, capsys):
    sweep = ["train", "-m", *SMALL, "lr.peak=0.1,-1,1e30"]
    code, out, err = outcome(capsys, *sweep)
    assert code == 1
    assert err.count("lr: Constant(peak=-1) is out of range") == 1
    assert err.splitlines()[-1] == "meta-lr: 1 of 3 jobs failed"
    assert out.splitlines()[-1] == "all runs together: meta-lr report runs/train"
    statuses = [read_record(folder).end["status"].split()[0] for folder in runs(place)]
    assert sorted(statuses) == ["diverged", "finished"]
    records = {folder: (folder / "records.jsonl").read_bytes() for folder in runs(place)}

    code, out, _ = outcome(capsys, *sweep)
    assert code == 1
    assert out.count("was finished before") == 2
    assert {folder: (folder / "records.jsonl").read_bytes() for folder in runs(place)} == records


def test_a_sweep_over_good_jobs_exits_with_0_also_if_one_diverges(place, capsys):
    code, out, err = outcome(capsys, "train", "-m", *SMALL, "lr.peak=0.1,1e30")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "all runs together: meta-lr report runs/train"
    assert "all runs together" not in outcome(capsys, "train", *SMALL, "lr.peak=0.1")[1]
    assert outcome(capsys, "train", *SMALL, "-m", "lr.peak=1e30")[0] == 0  # flags go anywhere
    assert outcome(capsys, "train", *SMALL, "lr.peak=1e30")[0] == 3


LEARN = ["meta-train", "debug=tiny", "model=mlp", "model.hidden=[4]", "net.hidden=4", "threads=1"]


def test_a_sweep_leaves_the_copy_that_a_single_run_of_its_experiment_made(place, capsys):
    copy = place / "runs" / "quickstart" / "checkpoint"
    assert outcome(capsys, *LEARN, "experiment=quickstart")[0] == 0
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    code, out, _ = outcome(capsys, *LEARN, "-m", "experiment=quickstart", "seed=1,2")
    assert code == 0 and out.count("not copied to runs/quickstart/checkpoint, which all jobs") == 2
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    own = [folder / "checkpoint" / "config.json" for folder in runs(place, "meta_train")]
    assert len(own) == 3 and all(path.exists() for path in own)


@pytest.mark.parametrize(
    ("asked", "places"),
    [
        (["seed=0,1", "checkpoint=mine-${seed}"], ["mine-0", "mine-1"]),
        (["checkpoint=a,b"], ["a", "b"]),
        (["seed=1", "checkpoint=mine"], ["mine"]),
        (
            ["lr=mlr_snet_online,mlr_snet_paper", "checkpoint=${hydra:runtime.choices.lr}"],
            ["mlr_snet_online", "mlr_snet_paper"],
        ),
    ],
)
def test_a_sweep_copies_checkpoints_to_folders_that_differ_by_job(place, capsys, asked, places):
    assert outcome(capsys, *LEARN, "-m", "lr.period=2", *asked)[0] == 0
    assert sorted(path.parent.name for path in place.glob("*/config.json")) == places


@pytest.mark.parametrize("flags", [["-m"], ["--config-dir", ".", "--multirun"]])
@pytest.mark.parametrize("asked", ["checkpoint=mine", "checkpoint=a,b", "checkpoint=a-${seed},b"])
def test_a_sweep_that_would_write_over_a_copy_is_refused(place, capsys, flags, asked):
    code, _, err = outcome(capsys, *LEARN, *flags, "seed=0,1", asked)
    assert code == 2 and "is one folder for several jobs of the sweep" in err
    assert not list(place.iterdir())


def test_a_signal_ends_the_whole_sweep(place, capfd):
    logger = ["logger._target_=tests.cli.test_cli_runs.interrupting", "+logger.number=15"]
    assert main(["train", "-m", *SMALL, *logger, "seed=0,1"]) == 143
    assert len(runs(place)) == 1
    assert main(["train", "-m", *SMALL, "seed=0,1"]) == 0
    assert all(read_record(folder).end["status"] == "finished" for folder in runs(place))
    assert len(runs(place)) == 2
    capfd.readouterr()
    assert main(["train", *SMALL, "seed=1"]) == 0
    assert "was finished before" in capfd.readouterr().out, "a sweep's job is a run like any other"


@pytest.mark.slow
def test_a_sweep_that_was_killed_skips_and_resumes(tmp_path, warm):
    """The sweep of the README, killed in its second job. Over 10 s: five meta-trainings."""
    sweep = ["meta-train", "-m", "debug=tiny", "seed=0,1", "net.hidden=20,50"]
    with warm.start(tmp_path, sweep) as process:
        process.reads("job 2 of 4: ")
        process.kill()
    done = warm.run(tmp_path, sweep)
    assert done.code == 0, done.err
    assert done.out.count("was finished before") >= 1
    folders = runs(tmp_path, "meta_train")
    assert len(folders) == 4
    assert all(read_record(folder).end["status"] == "finished" for folder in folders)
    assert all((folder / "checkpoint" / "config.json").exists() for folder in folders)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_another_process(tmp_path, warm, number, code):
    command = ["train", *SMALL, "epochs=20000", "record.every=1000"]
    with warm.start(tmp_path, command) as process:
        assert "begins, 200000 steps" in process.reads("step 10/200000")
        process.send_signal(number)
        done = process.done()
    assert done.code == code
    assert "the same command goes on from there" in done.err


# ------------------------------------------------------------------------------- names of runs


def fingerprint(*overrides, command="train"):
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("fingerprint", places.fingerprint, replace=True)
    with initialize_config_dir(str(conf_files.conf_dir()), version_base="1.3"):
        cfg = compose(command, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        return Path(cfg.hydra.run.dir).name


def test_a_run_is_named_by_what_it_computes():
    name = fingerprint()
    assert re.fullmatch("[0-9a-f]{10}", name)
    assert fingerprint("logger=wandb") == fingerprint("threads=1") == name
    assert fingerprint("lr=cosine", "epochs=10", "seed=0") == name
    others = [fingerprint(change) for change in ("seed=1", "lr.peak=0.2", "device=cuda")]
    assert len({name, *others}) == 4
    copied = fingerprint("checkpoint=a", command="meta_train")
    assert copied == fingerprint("checkpoint=b", command="meta_train")


def test_runs_without_an_average_keep_their_names_from_before_that_option():
    from omegaconf import OmegaConf

    hydra = {"job": {"config": {"override_dirname": {"exclude_keys": ["logger"]}}}}
    lr = {"average": False}  # a method's own option counts as ever

    def name(**options):
        return places.fingerprint(_root_=OmegaConf.create({"lr": lr, "hydra": hydra, **options}))

    assert name() == name(average=False) != name(average=True)
    assert name(lr={}) != name()


def test_a_class_that_moves_to_another_module_keeps_the_names_of_its_runs():
    from omegaconf import OmegaConf

    hydra = {"job": {"config": {"override_dirname": {"exclude_keys": ["logger"]}}}}

    def name(target):
        lr = {"_target_": target, "peak": 0.1}
        return places.fingerprint(_root_=OmegaConf.create({"lr": lr, "hydra": hydra}))

    moved = name("meta_lr.methods.basic.Cosine")
    assert moved == name("meta_lr.baselines.policies.Cosine")
    assert moved != name("meta_lr.methods.basic.Constant")
    assert moved != name("own.methods.basic.Cosine") != name("own.basic.Cosine")


def test_a_transfer_is_named_by_the_content_of_its_checkpoint(tmp_path):
    named = [f"checkpoint={write_checkpoint(tmp_path / 'c', seed=seed)}" for seed in (0, 1, 0)]
    names = []
    for seed, argument in zip((0, 1, 0), named, strict=True):
        write_checkpoint(tmp_path / "c", seed=seed)
        names.append(fingerprint(argument, command="transfer"))
    assert names[0] == names[2] != names[1]
    write_checkpoint(tmp_path / "moved")
    assert fingerprint(f"checkpoint={tmp_path / 'moved'}", command="transfer") == names[0]


def test_configs_are_found_in_the_package_or_beside_it(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "meta_lr"
    (package / "cli").mkdir(parents=True)
    monkeypatch.setattr(conf_files, "__file__", str(package / "cli" / "conf_files.py"))
    assert conf_files.conf_dir() == package.parent / "conf"
    (package / "conf").mkdir()
    assert conf_files.conf_dir() == package / "conf"
