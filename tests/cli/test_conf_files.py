"""The config files are merged without Hydra as Hydra merges them, for all commands and choices."""

import shlex

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from meta_lr.cli import places
from meta_lr.cli.conf_files import ConfFiles, choices, conf_dir, merged, names

OF_EPISODES = ("problems", "curriculum", "integrator", "window", "objective")
OF_META = ("net", "features", "estimator")
COMMANDS = ["meta-train", "meta-train-episodic", "train", "transfer", "range-test", "verify"]
COMMANDS += ["recommend", "compose", "check-hypergrad"]


@pytest.fixture(autouse=True)
def composing():
    OmegaConf.register_new_resolver("fingerprint", places.fingerprint, replace=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def assert_same(command, *overrides):
    ours = merged(ConfFiles().parts(command, overrides))
    ours.pop("hydra")
    hydras = OmegaConf.to_container(compose(command.replace("-", "_"), list(overrides)))
    assert ours == hydras
    assert list(dict(names(ours))) == list(dict(names(hydras))), "the order of the options"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_merged_as_hydra_does(command):
    assert_same(command)


@pytest.mark.parametrize("group", [g for g in ConfFiles().groups() if g != "experiment"])
def test_each_choice_is_merged_as_hydra_does(group):
    command = "meta-train-episodic" if group in OF_EPISODES else "train"
    for choice in choices(group):
        assert_same("meta-train" if group in OF_META else command, f"{group}={choice}")


def test_each_experiment_is_merged_as_hydra_does():
    for name in choices("experiment"):
        text = (conf_dir() / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")
        assert_same(shlex.split(text.splitlines()[1])[2], f"experiment={name}")


def test_choices_elsewhere_and_over_an_experiment_are_merged_as_hydra_does():
    assert_same("train", "lr=warmup", "lr@lr.inner=triexp")
    assert_same("train", "lr=warmup", "lr@lr.inner=mlr_snet_online")
    assert_same("transfer", "lr@learned=constant")
    assert_same("meta-train", "experiment=quickstart", "model=lenet", "debug=tiny")
    assert_same("train", "experiment=[knee_cifar10,autolr_digits]")
    assert_same("train", "experiment=[autolr_digits,knee_cifar10]")


def test_the_first_folder_that_has_a_file_counts(tmp_path):
    (tmp_path / "lr").mkdir()
    (tmp_path / "lr" / "mine.yaml").write_text("# Mine.\n_target_: own.Mine\npeak: 3  # high\n")
    files = ConfFiles((tmp_path,))
    assert {"mine", "cosine", "triexp"} <= set(files.choices("lr"))
    assert merged(files.parts("train", ["lr=mine"]))["lr"] == {"_target_": "own.Mine", "peak": 3}
