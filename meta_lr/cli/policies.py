"""LRBench's policies as choices of `lr`: they come from their table, not from files."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from meta_lr.methods.policies.examples import EXAMPLES

_TARGET = "meta_lr.methods.policies.formula.Policy"
_KIND = f"one of LRBench's {len(EXAMPLES)} shapes"


def register() -> None:
    """Make `lr=tri` and its kin known to Hydra."""
    for kind, example in EXAMPLES.items():
        values = {name: option.value for name, option in example.options.items()}
        node = {"_target_": _TARGET, "kind": kind, **values}
        ConfigStore.instance().store(name=kind, node=node, group="lr", provider="meta_lr")


def comments_of(kind: str) -> dict[str, str]:
    """Return what `--help` says of a policy's options, by name, and of the policy itself as ""."""
    example = EXAMPLES[kind]
    said = {name: option.comment for name, option in example.options.items()}
    return {"": example.summary, "kind": _KIND, **said}
