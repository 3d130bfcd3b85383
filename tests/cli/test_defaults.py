"""Python and the command line run the same method: a value in conf/ is the constructor's default.

What differs on purpose is listed here: variants that have a name of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hydra.utils import get_object

from meta_lr.cli.conf_files import conf_dir

CONF = conf_dir()
VARIANTS = {  # files of conf/ that name another variant than the constructor's, and what differs
    "estimator/es_rank": {"sigma", "shaping"},
    "features/history": {"names"},
    "features/horizon": {"names"},
    "features/self_tuning": {"names"},
    "features/time": {"names"},
    "lr/change_on_plateau": {"start"},  # an index into the list of policies beside it
    "lr/mlr_snet_paper": {"gamma"},  # the same formula, as a part of the file
    "lr/mlr_snet_paper_text": {"gamma", "fires", "start"},
    "model/lstm2": {"layers", "width", "dropout"},
    "model/lstm3": {"layers", "width", "dropout"},
    "model/resnet32": {"depth"},
    "model/resnet8": {"depth"},
    "net/linear": {"hidden"},
    "objective/end_short": {"last"},
    "optimizer/nesterov": {"momentum", "nesterov", "weight_decay"},  # torch's own class
    "optimizer/sgd": {"momentum", "weight_decay"},
    "optimizer/sgd_plain": {"weight_decay"},
    "task/mnist": {"crop_padding", "flip"},
    "task/svhn": {"crop_padding", "flip"},
    "window/whole": {"steps"},
}
FILES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.rglob("*.yaml"))
FILES = [name for name in FILES if not name.startswith("hydra/")]  # what Hydra's plugins make


def made(config: Any) -> Iterator[dict[str, Any]]:
    """Yield each part of a config that says what is made of it."""
    if isinstance(config, dict):
        if "_target_" in config:
            yield config
        for value in config.values():
            yield from made(value)


def differing(options: dict[str, Any]) -> Iterator[str]:
    """Yield the options whose value is not the default of what they are for, if it has one."""
    parameters = inspect.signature(get_object(options["_target_"])).parameters
    for name, value in options.items():
        if name.startswith("_") or name not in parameters or str(value).startswith("${"):
            continue
        default = parameters[name].default
        default = list(default) if isinstance(default, tuple) else default
        if default is not inspect.Parameter.empty and default != value:
            yield name


def loaded(name: str) -> Any:
    """Return what a file says, over what the files in its list of defaults say."""
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    group, _, _ = name.rpartition("/")
    for base in config.get("defaults", ()):
        if group and isinstance(base, str) and base != "_self_":
            config = loaded(f"{group}/{base}") | config
    return config


@pytest.mark.parametrize("name", FILES)
def test_a_value_in_a_file_is_the_default_in_python(name):
    found = {option for options in made(loaded(name)) for option in differing(options)}
    assert found == VARIANTS.get(name, set())


def test_each_variant_has_a_file():
    assert VARIANTS.keys() <= set(FILES)
