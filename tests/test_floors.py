"""Imports only go down, heavy libraries stay in their room, and only the commands print."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import meta_lr

PACKAGE = Path(meta_lr.__file__).parent
FLOORS = [
    ("host",),
    (
        "annealing",
        "callers",
        "csv_text",
        "extras",
        "files",
        "json_text",
        "processes",
        "protocol",
        "seeds",
        "vectors",
        "visible",
    ),
    ("optim", "records", "tasks"),
    ("training",),
    ("bilevel",),
    ("methods",),
    ("checkpoint",),
    ("drop_in",),
    ("transfer", "report", "lrbench", "explain", "integrations", "testing"),
    ("own_model",),
    ("cli",),
    ("__main__",),
]
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
ROOMS = {  # the only places that may import a library
    "hydra": "cli/",
    "omegaconf": "cli/",
    "wandb": "cli/",
    "rich": "cli/",
    "higher": "bilevel/unroll.py",
    "matplotlib": "report/figures.py",
    "jinja2": "report/html.py",
}
LAZY = ("hydra", "omegaconf", "wandb", "higher", "torchvision", "sklearn", "scipy", "matplotlib")


def files() -> list[str]:
    return sorted(p.relative_to(PACKAGE).as_posix() for p in PACKAGE.rglob("*.py"))


def part_of(file: str) -> str:
    """The file's or folder's name directly under the package."""
    return file.split("/")[0].removesuffix(".py")


def at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, without what only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from at_run_time(node)


def imported(file: str, source: str) -> Iterator[str]:
    """Dotted names of all that a file imports; `a.b` for `from a import b`."""
    folder = ["meta_lr", *file.split("/")[:-1]]
    for node in at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def upward(file: str, source: str) -> list[str]:
    """What a file imports of our own that is not below it, nor in its folder."""
    here, found = part_of(file), []
    for name in imported(file, source):
        package, _, rest = name.partition(".")
        part = rest.split(".")[0]
        if package != "meta_lr" or part in (here, "__version__"):
            continue
        if part not in FLOOR or FLOOR[part] >= FLOOR[here]:
            found.append(name)
    return found


def astray(file: str, source: str) -> list[str]:
    """Libraries that a file imports though they belong elsewhere."""
    libraries = {name.split(".")[0] for name in imported(file, source)}
    return sorted(lib for lib in libraries & set(ROOMS) if not file.startswith(ROOMS[lib]))


def prints(file: str, source: str) -> bool:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    names = [call.func.id for call in calls if isinstance(call.func, ast.Name)]
    return "print" in names and not file.startswith("cli/")


@pytest.mark.parametrize("file", [file for file in files() if file != "__init__.py"])
def test_imports_go_down_and_only_commands_print(file):
    source = (PACKAGE / file).read_text(encoding="utf-8")
    assert part_of(file) in FLOOR, f"{file} stands on no floor; give it one in FLOORS"
    assert upward(file, source) == []
    assert astray(file, source) == []
    assert not prints(file, source)


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("host.py", "from meta_lr.protocol import Need", ["meta_lr.protocol.Need"]),
        ("host.py", "from meta_lr import protocol", ["meta_lr.protocol"]),
        ("tasks/new.py", "import meta_lr.methods.networks.lstm", ["meta_lr.methods.networks.lstm"]),
        ("tasks/new.py", "from ..methods.networks import lstm", ["meta_lr.methods.networks.lstm"]),
        ("training/new.py", "def f():\n  from meta_lr import cli", ["meta_lr.cli"]),
        ("training/new.py", "from meta_lr import train", ["meta_lr.train"]),
        ("bilevel/new.py", "from meta_lr.unheard import of", ["meta_lr.unheard.of"]),
        ("bilevel/new.py", "from meta_lr.training.loop import train", []),
        ("tasks/new.py", "from .base import Task\nfrom meta_lr import seeds", []),
        ("cli/new.py", "from meta_lr import __version__", []),
        ("host.py", "if TYPE_CHECKING:\n  from meta_lr.protocol import Need", []),
    ],
)
def test_an_import_that_goes_up_or_aside_is_found(file, source, found):
    assert upward(file, source) == found


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("training/loop.py", "import hydra.utils", ["hydra"]),
        ("report/write.py", "def f():\n  from matplotlib.figure import Figure", ["matplotlib"]),
        ("methods/mlr_snet/online.py", "import higher, wandb", ["higher", "wandb"]),
        ("bilevel/unroll.py", "import higher", []),
        ("cli/new.py", "import hydra, wandb, rich.progress", []),
        ("cli/new.py", "import higher", ["higher"]),
    ],
)
def test_a_library_that_goes_astray_is_found(file, source, found):
    assert astray(file, source) == found


def test_a_print_is_found():
    assert prints("training/loop.py", "def f():\n  print(1)")
    assert not prints("cli/main.py", "print(1)")


def test_to_import_the_package_loads_nothing_heavy():
    code = (
        "import sys, meta_lr; [getattr(meta_lr, name) for name in meta_lr.__all__]; "
        "assert meta_lr.ControlledLR and meta_lr.load_pretrained and meta_lr.__version__; "
        f"print([name for name in {LAZY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
