"""The name of a run's folder, and what Hydra needs beside the config files."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, OmegaConf

from meta_lr.cli.conf_files import conf_dir, policy
from meta_lr.methods.policies.examples import EXAMPLES

_NEWER = {  # options that were added later, with their defaults
    "average": False,
    "parts": 1,
    "precision": "fp32",
    "channels_last": False,
    "compile": None,
    "norm_decay": None,
    "ema": None,
}
_OWN = "meta_lr."  # begins the path of each class and function of this package


def _len(value: object) -> int:
    if not isinstance(value, ListConfig):
        raise ValueError(f"len: of {value}, which is no list")
    return len(value)


# The files use the resolver, for `${len:${features.names}}`, and the policies stand beside them.
OmegaConf.register_new_resolver("len", _len, replace=True)
for kind in EXAMPLES:
    node = policy(kind).values
    ConfigStore.instance().store(kind, node, group="lr", provider="meta_lr")


def fingerprint(*, _root_: DictConfig) -> str:
    """Return ten hex digits that name a composed config; the resolver `${fingerprint:}`.

    What says how Hydra runs or where the results go has no part in it: `hydra` itself and the keys
    in `hydra.job.config.override_dirname.exclude_keys`. A checkpoint counts by what is in it, not
    by its name, so a run never passes for one with an older checkpoint. Of what this package makes,
    the class or function counts, not its module, so that modules can move. A newer option counts
    only where it is set, so that runs without it keep their names from before there was one.
    """
    excluded = OmegaConf.select(_root_, "hydra.job.config.override_dirname.exclude_keys")
    unset = [key for key, default in _NEWER.items() if _root_.get(key, default) == default]
    keys = [str(key) for key in _root_ if key not in ("hydra", *excluded, *unset)]
    config = OmegaConf.to_container(OmegaConf.masked_copy(_root_, keys))
    text = json.dumps(_content(config), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


def _content(value: Any) -> Any:
    """Return `value` with names of checkpoints replaced by a hash of their files.

    Paths of our own classes and functions lose their modules.
    """
    if isinstance(value, dict):
        return {str(key): _content(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_content(item) for item in value]
    if isinstance(value, str) and value.startswith(_OWN):
        return _OWN + value.rpartition(".")[2]
    if isinstance(value, str) and value:
        for folder in (Path(value), conf_dir().parent / "checkpoints" / value):
            files = (folder / "config.json", folder / "model.safetensors")
            if all(map(os.path.isfile, files)):  # false too where a text is too long for a name
                return hashlib.blake2b(b"".join(f.read_bytes() for f in files)).hexdigest()
    return value
