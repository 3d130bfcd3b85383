"""Every file in conf/: it composes, what it names can be built, and experiments keep their word."""

import re
import shlex
from collections.abc import Iterator
from functools import lru_cache

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from meta_lr import checkpoint
from meta_lr.cli.checks import refuse_misfits
from meta_lr.cli.conf_files import choices, conf_dir
from meta_lr.cli.main import COMMANDS
from meta_lr.cli.parts import build
from meta_lr.cli.places import fingerprint
from meta_lr.methods.mlr_snet.learned import Learned
from meta_lr.methods.networks.lstm import LSTM
from meta_lr.protocol import Need

CONF = conf_dir()


@pytest.fixture(autouse=True)
def composing():
    OmegaConf.register_new_resolver("fingerprint", fingerprint, replace=True)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def keys(cfg, prefix="") -> Iterator[str]:
    """Yield the dotted names of all that a config holds, whether set or not."""
    for key, node in ((key, cfg._get_node(key)) for key in cfg):
        yield f"{prefix}{key}"
        if isinstance(node, DictConfig):
            yield from keys(node, f"{prefix}{key}.")


@lru_cache
def default(config):
    return compose(config)


def experiment(name):
    """Return the command of an experiment's second line, its config name, and its overrides."""
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_", "line 1 must be that, or Hydra takes no notice of it"
    program, command, *overrides = shlex.split(lines[1].removeprefix("# "))
    assert program == "meta-lr" and command in COMMANDS
    assert f"experiment={name}" in overrides
    return command, command.replace("-", "_"), overrides


@pytest.mark.parametrize("name", choices("experiment"))
def test_an_experiment_composes_adds_no_key_and_differs_from_the_default(name):
    _, config, overrides = experiment(name)
    cfg = compose(config, overrides, return_hydra_config=True)
    chosen = [
        f"{group}={choice}"
        for group, choice in cfg.hydra.runtime.choices.items()
        if choice and not group.startswith("hydra/") and group != "experiment"
    ]
    del cfg._content["hydra"]
    base = compose(config, chosen)
    assert set(keys(cfg)) == set(keys(base)), "an experiment sets options, it does not invent any"
    assert cfg != default(config)
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("group", ["task", "model", "logger", "debug"])
def test_each_choice_of_a_group_composes(group):
    base = set(compose("train"))
    for choice in choices(group):
        assert set(compose("train", [f"{group}={choice}"])) == base


@pytest.fixture
def trained(tmp_path):
    net = LSTM(hidden=3)
    learned = Learned(net, [net.init(0)], 0.1)
    checkpoint.save(tmp_path / "trained", learned, trained_on={}, card="")
    return tmp_path / "trained"


@pytest.mark.parametrize("name", choices("lr"))
def test_a_method_is_built_from_its_file_and_is_a_controller(name, trained):
    named = [f"lr.name={trained}"] if name == "learned" else []
    controller = build(compose("train", [f"lr={name}", *named]).lr)
    assert isinstance(controller.needs, Need)
    state = controller.init()
    assert hasattr(state, "_fields")
    assert type(controller).__name__ in repr(controller)


WITH_NETS = ("meta_train", "meta_train_episodic", "check_hypergrad")


@pytest.mark.parametrize("features", choices("features"))
@pytest.mark.parametrize("net", choices("net"))
@pytest.mark.parametrize("config", WITH_NETS)
def test_a_network_reads_as_many_numbers_as_there_are_features(config, net, features):
    cfg = compose(config, [f"net={net}", f"features={features}"])
    read, given = build(cfg.net), build(cfg.features)
    assert read.inputs == given.inputs
    if "lr" in cfg and not given.needs & Need.GRADS:
        assert (build(cfg.lr).net, build(cfg.lr).features) == (read, given)
    OmegaConf.update(cfg, "net.inputs", 9)
    assert build(cfg.net).inputs == 9, "what is set counts, and is refused where it does not fit"


@pytest.mark.parametrize("net", choices("net"))
@pytest.mark.parametrize("config", WITH_NETS)
def test_a_network_follows_the_names_and_what_is_set(config, net):
    fewer = compose(config, [f"net={net}", "features.names=[log_loss,progress]"])
    assert build(fewer.net).inputs == 2
    own = compose(config, [f"net={net}", "net.inputs=9"])
    assert build(own.net).inputs == 9


@pytest.mark.parametrize("net", choices("net"))
def test_a_network_is_built_from_its_file_and_gives_a_rate(net):
    online = build(compose("meta_train", [f"net={net}"]).lr)
    phi = online.net.init(0)
    assert [weight.dtype for weight in phi] == [torch.float32] * len(online.net.names)
    output, _ = online.net(phi, torch.tensor(2.3), online.net.memory())
    assert 0.0 < float(output) < 1.0


@pytest.mark.parametrize("name", choices("optimizer"))
def test_an_optimizer_is_built_from_its_file_and_steps(name):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = build(compose("train", [f"optimizer={name}"]).optimizer)([weight])
    assert optimizer.param_groups[0]["lr"] > 0, "a zero rate has no ratio to other groups"
    weight.square().sum().backward()
    optimizer.step()
    assert (weight < 1).all()


@pytest.mark.parametrize("group", ["task", "model", "optimizer", "logger"])
def test_every_value_is_of_the_type_that_its_maker_names(group):
    for choice in choices(group):
        cfg = compose("train", [f"{group}={choice}", *ROOT.get(choice, [])])
        refuse_misfits(cfg[group])


ROOT = {"image_folder": ["task.root=x"], "imagenet": ["task.root=x"], "text": ["task.path=x"]}
MISFITS = {
    "lr.peak=abc": "lr.peak=abc; a number is needed",
    "lr.peak=null": "lr.peak=null; a number is needed",
    "lr.peak=true": "lr.peak=True; a number is needed",
    "seed=1.5": "seed=1.5; a whole number is needed",
    "task.flip=1": "task.flip=1; true or false is needed",
    "task.root=3": "task.root=3; a text is needed: 'task.root=\"3\"'",
    "model.hidden=3": "model.hidden=3; a list of whole numbers is needed: model.hidden=[3]",
    "model.hidden=[3,x]": "model.hidden=[3, 'x']; a list of whole numbers is needed",
    "optimizer.momentum=high": "optimizer.momentum=high; a number is needed",
    "logger.entity=5": "logger.entity=5; a text or null is needed: 'logger.entity=\"5\"'",
}


@pytest.mark.parametrize("override", MISFITS)
def test_a_value_of_the_wrong_type_is_refused_by_its_name(override):
    cfg = compose("train", ["task=cifar10", "logger=wandb", "lr=cosine", override])
    with pytest.raises(ValueError, match=f"^{re.escape(MISFITS[override])}$"):
        for group in ("task", "lr", "optimizer", "logger"):
            refuse_misfits(cfg[group])


def test_values_that_fit_pass():
    numbers = ["lr.gamma=1", "net.hidden=3", "lr.snapshots=[1]"]
    refuse_misfits(compose("train", ["lr=mlr_snet_online", *numbers]).lr)
    refuse_misfits(compose("train", ["lr=learned", "lr.peak=0.1", "lr.fallback=cosine"]).lr)
    with pytest.raises(ValueError, match=r"lr.fallback=sine; cosine or null is needed"):
        refuse_misfits(compose("train", ["lr=learned", "lr.fallback=sine"]).lr)


@pytest.mark.parametrize("name", ["digits", "quadratic"])
def test_a_task_that_needs_no_download_is_built_with_the_seed_of_the_run(name):
    task = build(compose("train", [f"task={name}", "seed=5"]).task)
    assert (task.name, task.seed) == (name, 5)
    assert task.num_batches("train") > 0


def test_a_short_run_for_debugging_is_short():
    cfg = compose("meta_train", ["debug=tiny"])
    assert cfg.epochs is None and cfg.total_steps <= 10


def test_the_quickstarts_fit_together():
    learns = compose("meta_train", ["experiment=quickstart"])
    uses = compose("transfer", ["experiment=quickstart_transfer"])
    assert uses.checkpoint == uses.learned.name == learns.checkpoint
    assert uses.model != learns.model
    assert learns.seed not in uses.seeds
    task = build(learns.task)
    assert task.num_batches("train") * learns.epochs // learns.lr.period >= 100  # updates of phi
