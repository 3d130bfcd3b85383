"""The command line: help, errors line by line, skip and resume, signals, sweeps, loggers."""

import contextlib
import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

from meta_lr import checkpoint
from meta_lr.cli import errors, loggers, parts, places
from meta_lr.cli.main import COMMANDS, main
from meta_lr.schedulers.learned import Learned
from meta_lr.schedulers.lstm import LSTM
from meta_lr.schedulers.mlp import MLP
from meta_lr.training.record import locked, read_rows

META_LR = [sys.executable, "-m", "meta_lr"]
SMALL = ["task=quadratic", "task.steps_per_epoch=10", "lr=constant", "epochs=3"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, and a report that is not drawn."""
    monkeypatch.chdir(tmp_path)
    page = types.SimpleNamespace(page="page", markdown="table")
    monkeypatch.setattr(parts, "write_report", lambda folder, out: page)
    return tmp_path


def outcome(capsys, *arguments):
    """Run a command in this process; return its exit code and what it printed."""
    code = main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def runs(place, command="train"):
    return sorted(path.parent for path in (place / "runs" / command).glob("*/records.jsonl"))


def timeless(folder):
    """Return a record without what differs between two equal runs."""
    rows = read_rows(folder)
    rows[0]["config"].pop("logger")
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# ---------------------------------------------------------------------------------- help


def test_help_lists_the_commands_and_loads_nothing_heavy():
    code = (
        "import sys; from meta_lr.cli.main import main; main(['--help']); "
        "sys.exit(bool({'hydra', 'omegaconf', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, what in COMMANDS.items():
        assert name in done.stdout and what in done.stdout
    assert "meta-lr meta-train experiment=quickstart" in done.stdout


@pytest.mark.parametrize("command", ["meta-train", "train", "transfer"])
def test_help_of_a_command_shows_its_config_groups_and_options(command, capsys):
    code, out, _ = outcome(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"meta-lr {command}: ")
    for group in ("debug: tiny", "lr: constant, cosine, learned", "logger: jsonl, wandb"):
        assert group in out
    assert "experiment: " in out and "total_steps: null" in out


@pytest.mark.parametrize("command", ["meta-train", "train", "transfer"])
def test_a_config_can_be_shown_resolved(command, capsys):
    code, out, _ = outcome(capsys, command, "seed=7", "--cfg", "job", "--resolve")
    config = yaml.safe_load(out)
    assert code == 0
    assert config["task"]["seed"] == config["seed"] == 7
    assert "${" not in out


def test_help_of_report(capsys):
    code, out, _ = outcome(capsys, "report", "--help")
    assert code == 0
    assert "--reference METHOD" in out


# ---------------------------------------------------------------------------------- errors


def _write(folder, *, net=None, seed=0):
    net = net or LSTM(hidden=4)
    learned = Learned(net, [net.init(seed)], 0.1, family="sgd", loss_range=(0.1, 3.0))
    checkpoint.save(folder, learned, trained_on={"cost": 10.0}, card="# A card\n")
    return folder


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A folder of checkpoints, each broken in its own way, and of other wrong things."""
    place = tmp_path_factory.mktemp("broken")
    cut = _write(place / "cut") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:100])
    newer = _write(place / "newer") / "config.json"
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"format_version": 9}))
    other = _write(place / "other") / "model.safetensors"
    shutil.copy(_write(place / "of_mlp", net=MLP((3,))) / "model.safetensors", other)
    swapped = _write(place / "swapped") / "model.safetensors"
    shutil.copy(_write(place / "seed_1", seed=1) / "model.safetensors", swapped)
    torch.save({}, place / "old.pth")
    (place / "empty").mkdir()
    (place / "extra" / "experiment").mkdir(parents=True)
    (place / "full").write_text("")
    return place


LEARNED = ["train", "lr=learned"]
ERRORS = {
    "unknown command": (
        ["trian"],
        "unknown command 'trian'; the commands are meta-train, train, transfer, report; "
        "did you mean train?",
    ),
    "unknown flag": (
        ["train", "--epochs"],
        "unknown flag '--epochs'; options are written key=value, and the flags are --help, "
        "--cfg job, --resolve, -m, --config-dir and --info",
    ),
    "unknown option": (
        ["train", "epoch=3"],
        "unknown option 'epoch' of train; did you mean epochs=?",
    ),
    "unknown option of a method": (
        ["train", "lr=constant", "lr.milestones=[3]"],
        "unknown option 'lr.milestones' of train; meta-lr train --help lists them",
    ),
    "unknown method": (
        ["train", "lr=foo"],
        "unknown lr 'foo'; choose one of: <...>, cosine, learned, mlr_snet_online, <...>",
    ),
    "unknown baseline": (
        ["transfer", "checkpoint=seed_1", "baselines=[foo]"],
        "unknown lr 'foo'; choose one of: <...>, cosine, learned, mlr_snet_online, <...>",
    ),
    "unknown experiment": (
        ["train", "experiment=foo"],
        "unknown experiment 'foo'; choose one of: <...>, quickstart, quickstart_transfer<...>",
    ),
    "no key and value": (
        ["train", "lr"],
        "cannot read 'lr'; options are written key=value",
    ),
    "a list without -m": (
        ["train", "seed=0,1"],
        "seed=0,1 is several values; -m runs a job for each, [0,1] is a list",
    ),
    "a rate below zero": (
        ["train", "lr=constant", "lr.peak=-1"],
        "lr: Constant(peak=-1) is out of range; it needs a finite peak >= 0",
    ),
    "no such device": (
        ["train", "device=gpu"],
        "device=gpu cannot be used (<...>); pass device=cpu",
    ),
    "no length": (
        ["train", "epochs=null"],
        "neither epochs nor total_steps is set; pass one, such as epochs=10",
    ),
    "a word for a number": (
        ["train", "seed=one"],
        "seed=one; a whole number is needed, at least 0",
    ),
    "nothing to meta-train": (
        ["meta-train", "lr=cosine"],
        "lr=cosine learns nothing; meta-train takes lr=mlr_snet_online",
    ),
    "seeds that are no list of numbers": (
        ["transfer", "checkpoint=seed_1", "seeds=[]"],
        "seeds=[]; a list of whole numbers is needed, such as seeds=[0,1,2]",
    ),
    "tuning on a seed that is compared": (
        ["transfer", "checkpoint=seed_1", "seeds=[1,2]", "tune.peaks=[0.1]", "tune.seed=2"],
        "tune.seed=2 is one of seeds=[1, 2]; tune with another one",
    ),
    "missing data": (
        ["train", "task=image_folder", "task.root=nowhere"],
        "task: there is nothing at root=nowhere (<...>/nowhere); needed are train/CLASS/*.jpg and "
        "one more directory, such as test/CLASS/*.jpg",
    ),
    "no data named": (["train", "task=image_folder"], "task.root is not set; pass task.root=..."),
    "no such checkpoint": (
        [*LEARNED, "lr.name=nothing"],
        "lr: no checkpoint 'nothing': not a folder, and bundled are: <...>",
    ),
    "an empty checkpoint": (
        [*LEARNED, "lr.name=empty"],
        "lr: empty/config.json is missing; a checkpoint is a folder of config.json and "
        "model.safetensors",
    ),
    "a truncated checkpoint": (
        [*LEARNED, "lr.name=cut"],
        "lr: cut/model.safetensors is damaged or cut short (<...>); copy the checkpoint again",
    ),
    "a checkpoint from a newer format": (
        [*LEARNED, "lr.name=newer"],
        "lr: newer/config.json has format 9, this meta_lr reads up to 1; install a newer meta_lr",
    ),
    "a checkpoint of another network": (
        [*LEARNED, "lr.name=other"],
        "lr: other/model.safetensors holds another network: stage0.x_down.weight is "
        "missing, but LSTM(hidden=4, <...>) needs (2, 1)",
    ),
    "a checkpoint with swapped weights": (
        [*LEARNED, "lr.name=swapped"],
        "lr: swapped: the weights are not those that config.json was written for; "
        "copy both files from the same checkpoint",
    ),
    "a pickle": (
        [*LEARNED, "lr.name=old.pth"],
        "lr: old.pth is a file; a checkpoint is a folder of config.json and model.safetensors "
        "(pickles such as .pt and .pth are not read)",
    ),
    "a checkpoint for another optimizer": (
        [*LEARNED, "lr.name=seed_1", "optimizer=adam"],
        "the checkpoint's rate was learned with sgd; this optimizer is adam: "
        "pass peak= (the rate at full output) to load_pretrained",
    ),
    "a report on nothing": (
        ["report", "empty"],
        "no records.jsonl with a run in it at or below 'empty'; "
        "pass the folder of a run, a sweep or a transfer",
    ),
    "a report without a folder": (
        ["report"],
        "report: the following arguments are required: folder (meta-lr report --help)",
    ),
}


def expected(line):
    """Return the pattern of a line of the table, where `<...>` stands for anything."""
    return ".*".join(re.escape(part) for part in f"meta-lr: {line}\n".split("<...>"))


@pytest.mark.parametrize("name", ERRORS)
def test_a_mistake_is_one_line_and_exit_code_2(name, broken, monkeypatch, capsys):
    arguments, line = ERRORS[name]
    monkeypatch.chdir(broken)
    code, out, err = outcome(capsys, *arguments)
    assert code == 2
    assert re.fullmatch(expected(line), err), err
    assert not out
    assert not list(broken.glob("runs/**/records.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ERRORS)
def test_the_real_command_says_the_same(name, broken):
    arguments, line = ERRORS[name]
    done = subprocess.run([*META_LR, *arguments], cwd=broken, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(expected(line), done.stderr), done.stderr


def test_debugging_shows_where_an_error_came_from(broken, monkeypatch):
    monkeypatch.chdir(broken)
    monkeypatch.setenv("META_LR_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown lr 'foo'"):
        main(["train", "lr=foo"])


def test_an_existing_run_that_is_locked(place, capsys):
    assert outcome(capsys, "train", *SMALL)[0] == 0
    folder = runs(place)[0]
    with locked(folder):
        code, _, err = outcome(capsys, "train", *SMALL)
    name = folder.relative_to(place)
    assert code == 2
    assert err == (
        f"meta-lr: {name} is in use by process {os.getpid()}; "
        "wait for it, stop it, or run elsewhere\n"
    )


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
    ("what", "task", "size"),
    [("records.jsonl", "quadratic", 1_500), ("state.pt.partial", "digits", 50_000)],
)
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(place, capsys, what, task, size):
    arguments = ["train", f"task={task}", "lr=constant", "total_steps=8", "save_every=2"]
    with little_room(size):
        code, _, err = outcome(capsys, *arguments)
    assert code == 2
    assert re.fullmatch(
        r"meta-lr: (\S+: )?the file may not grow any further; "
        r"make room, and the same command goes on\n",
        err,
    ), err
    assert (runs(place)[0] / what).stat().st_size <= size
    code, out, _ = outcome(capsys, *arguments)
    assert code == 0
    assert "finished after 8 steps" in out


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left", "a/b"), "a/b: the disk is full; make room, "),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "x: no such file or"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: permission denied"),
        (ValueError("two\n  lines"), "two lines"),
        (TypeError(), "TypeError"),
    ],
)
def test_an_error_in_one_line(error, line):
    assert errors.one_line(error).startswith(line)
    assert "\n" not in errors.one_line(error)


# ------------------------------------------------------------------- skip, resume, diverge, stop


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
    header = read_rows(runs(place)[0])[0]
    assert (header["command"], header["method"], header["model"]) == ("train", "cosine", "mlp")
    assert header["config"]["lr"]["peak"] == 0.2
    assert header["config"]["task"]["seed"] == header["seed"] == 3


def test_one_line_per_epoch_in_the_log_file_and_without_a_terminal_on_stdout(place, capsys):
    _, out, _ = outcome(capsys, "train", *SMALL)
    log = (runs(place)[0] / "log.txt").read_text().splitlines()
    epochs = [line for line in log if "val loss" in line]
    assert [line.split("step ")[1].split()[0] for line in epochs] == ["10/30", "20/30", "30/30"]
    assert all(line.split("  ", 1)[1] in out for line in log)


def test_a_run_that_diverges_stops_keeps_its_record_and_exits_with_3(place, capsys):
    code, out, _ = outcome(capsys, "train", *SMALL, "lr.peak=1e30")
    rows = read_rows(runs(place)[0])
    assert code == 3
    assert rows[-1]["status"].startswith("diverged at step ")
    assert f"constant on quadratic, seed 0: {rows[-1]['status']}: the loss is not finite" in out


@contextlib.contextmanager
def interrupting(folder, *, number):
    """A logger that sends a signal to its own process at the first evaluation."""

    def listen(row):
        if row["kind"] == "eval" and row["step"] == 10:
            signal.raise_signal(number)

    yield listen


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_same_command_goes_on(place, capfd, number, code):
    logger = ["logger._target_=tests.test_cli.interrupting", f"+logger.number={int(number)}"]
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
    sweep = ["train", "-m", *SMALL, "lr.peak=0.1,-1,1e30", "seed=0,1"]
    code, out, err = outcome(capsys, *sweep)
    assert code == 1
    assert err.count("lr: Constant(peak=-1) is out of range") == 2
    assert err.splitlines()[-1] == "meta-lr: 2 of 6 jobs failed"
    statuses = [read_rows(folder)[-1]["status"].split()[0] for folder in runs(place)]
    assert sorted(statuses) == ["diverged", "diverged", "finished", "finished"]
    records = {folder: (folder / "records.jsonl").read_bytes() for folder in runs(place)}

    code, out, _ = outcome(capsys, *sweep)
    assert code == 1
    assert out.count("was finished before") == 4
    assert {folder: (folder / "records.jsonl").read_bytes() for folder in runs(place)} == records


def test_a_sweep_over_good_jobs_exits_with_0_also_if_one_diverges(place, capsys):
    code, _, err = outcome(capsys, "train", "-m", *SMALL, "lr.peak=0.1,1e30")
    assert (code, err) == (0, "")


def test_a_signal_ends_the_whole_sweep(place, capfd):
    logger = ["logger._target_=tests.test_cli.interrupting", "+logger.number=15"]
    assert main(["train", "-m", *SMALL, *logger, "seed=0,1,2"]) == 143
    assert len(runs(place)) == 1
    assert main(["train", "-m", *SMALL, "seed=0,1,2"]) == 0
    assert all(read_rows(folder)[-1]["status"] == "finished" for folder in runs(place))
    assert len(runs(place)) == 3


@pytest.mark.slow
def test_a_sweep_that_was_killed_skips_and_resumes(tmp_path):
    """The real command line of the README, killed in its second job."""
    sweep = [*META_LR, "meta-train", "-m", "debug=tiny", "seed=0,1,2", "net.hidden=20,50"]
    process = subprocess.Popen(sweep, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("[1]"):
            process.kill()
            break
    process.wait()
    done = subprocess.run(sweep, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("was finished before") >= 1
    folders = runs(tmp_path, "meta_train")
    assert len(folders) == 6
    assert all(read_rows(folder)[-1]["status"] == "finished" for folder in folders)
    assert all((folder / "checkpoint" / "config.json").exists() for folder in folders)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_real_command(tmp_path, number, code):
    command = [*META_LR, "train", *SMALL, "epochs=20000", "record.every=1000"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert "step 10/200000" in process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "the same command goes on from there" in err


# ------------------------------------------------------------------------------- names of runs


def fingerprint(*overrides, command="train"):
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("fingerprint", places.fingerprint, replace=True)
    with initialize_config_dir(str(places.conf_dir()), version_base="1.3"):
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


def test_a_transfer_is_named_by_the_content_of_its_checkpoint(tmp_path):
    named = [f"checkpoint={_write(tmp_path / 'c', seed=seed)}" for seed in (0, 1, 0)]
    names = []
    for seed, argument in zip((0, 1, 0), named, strict=True):
        _write(tmp_path / "c", seed=seed)
        names.append(fingerprint(argument, command="transfer"))
    assert names[0] == names[2] != names[1]
    _write(tmp_path / "moved")
    assert fingerprint(f"checkpoint={tmp_path / 'moved'}", command="transfer") == names[0]


def test_configs_are_found_in_the_package_or_beside_it(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "meta_lr"
    (package / "cli").mkdir(parents=True)
    monkeypatch.setattr(places, "__file__", str(package / "cli" / "places.py"))
    assert places.conf_dir() == package.parent / "conf"
    (package / "conf").mkdir()
    assert places.conf_dir() == package / "conf"


# --------------------------------------------------------------------------- loggers, progress


class FakeWandb(types.SimpleNamespace):
    """As much of wandb as is used; it keeps what it gets."""

    Error = RuntimeError

    def __init__(self):
        super().__init__(started=[], rows=[], summary={}, ended=0)
        self.Settings = lambda **options: options

    def init(self, **options):
        self.started.append(options)
        return self

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.ended += 1


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "netrc"


def test_wandb_gets_thinned_steps_all_evaluations_and_the_end(place, monkeypatch, capsys, no_key):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    arguments = ["train", *SMALL, "logger=wandb", "logger.every=7"]
    assert outcome(capsys, *arguments)[0] == 0
    (started,) = fake.started
    assert (started["mode"], started["project"]) == ("offline", "meta_lr")
    assert started["config"]["method"] == "constant"
    steps = [row["step"] for row in fake.rows if "train/loss" in row]
    assert steps == [1, 8, 15, 22, 29]
    assert [row["step"] for row in fake.rows if "val/loss" in row] == [10, 20, 30]
    assert {"test_last/loss", "test_best/loss"} <= {key for row in fake.rows for key in row}
    assert fake.summary == {"status": "finished"} and fake.ended == 1
    assert outcome(capsys, *arguments)[0] == 0
    assert len(fake.started) == 1, "a run that was finished before starts nothing"


def test_wandb_is_online_only_for_who_is_logged_in(monkeypatch, no_key):
    assert loggers._mode() == "offline"
    no_key.write_text("machine api.wandb.ai login user password secret\n")
    no_key.chmod(0o600)
    assert loggers._mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert loggers._mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert loggers._mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert loggers._mode() == "disabled"


def test_wandb_that_is_missing_or_does_not_start_is_one_line(place, monkeypatch, capsys, no_key):
    monkeypatch.setitem(sys.modules, "wandb", None)
    code, _, err = outcome(capsys, "train", *SMALL, "logger=wandb")
    assert code == 2
    assert err == (
        "meta-lr: logger=wandb needs the package wandb; pip install wandb, or leave logger=jsonl\n"
    )
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)

    def fail(**options):
        raise fake.Error("no such project")

    fake.init = fail
    code, _, err = outcome(capsys, "train", *SMALL, "logger=wandb", "seed=1")
    assert code == 2
    assert err == (
        "meta-lr: wandb did not start (no such project); "
        "`wandb login`, WANDB_MODE=offline, or logger=jsonl\n"
    )


@pytest.mark.slow
def test_real_wandb_offline(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    done = subprocess.run(
        [*META_LR, "train", *SMALL, "logger=wandb"],
        cwd=tmp_path,
        env=environment | {"NETRC": str(tmp_path / "none"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/train/*/wandb/offline-run-*/*.wandb"))) == 1


@pytest.mark.slow
def test_a_terminal_gets_a_bar_with_loss_rate_speed_and_time_left(tmp_path):
    import pty

    leader, follower = pty.openpty()
    command = [*META_LR, "train", *SMALL, "epochs=200"]
    environment = os.environ | {"COLUMNS": "160", "TERM": "xterm"}
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # what reading a closed terminal raises
        while chunk := os.read(leader, 4096):
            shown += chunk
    assert process.wait() == 0
    text = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert re.search(
        r"constant seed 0 .* \d+/2000 loss 0\.\d{4}  rate 0\.1  [\d,]+ steps/s \d:\d\d:\d\d", text
    ), text[-3000:]
    assert "constant on quadratic, seed 0: test loss" in text
