"""The result store: one SQLite file, one row per run, safe with many writers.

After `Store.put` has returned, its rows are on the disk. A killed process or a power cut does not
lose them. The store uses SQLite's write-ahead log, which needs a local disk. On a read-only medium
or a full disk, a store can still be read.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from meta_lr.json_text import parse_json
from meta_lr.lrbench.result import KEY, KINDS, Result

FORMAT = 1  # the file's user_version
APPLICATION = 0x4C52_4265  # the file's application_id: "LRBe"
PATIENCE = 60.0  # seconds that a process waits for others

_TYPES = {
    "str": "TEXT NOT NULL",
    "int": "INTEGER NOT NULL",
    "float": "REAL NOT NULL",
    "float | None": "REAL",
    "tuple[Point, ...]": "TEXT NOT NULL",  # as JSON
}
_COLUMNS = {name: _TYPES[kind] for name, kind in KINDS.items()}
_TABLE = f"""
    CREATE TABLE results (
        {", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())},
        PRIMARY KEY ({", ".join(KEY)})
    )"""
_PUT = f"""
    INSERT INTO results ({", ".join(_COLUMNS)}) VALUES ({", ".join("?" for _ in _COLUMNS)})
    ON CONFLICT ({", ".join(KEY)}) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name not in KEY)}
    WHERE excluded.status = 'finished' OR excluded.status LIKE 'diverged%'
        OR (results.status <> 'finished' AND results.status NOT LIKE 'diverged%'
            AND excluded.steps >= results.steps)"""


class Store:
    """A store, open from construction until `close`, or as a context; do not use it after a fork.

    Args:
        path: The file.
        make: Whether `put` creates the file and its parent folders if they are missing.

    Raises:
        FileNotFoundError: The file is missing, and `make` is false.
        ValueError: The file is damaged, has a newer format, or is no store.
        OSError: The file cannot be opened, or other processes kept it busy for a minute.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        if not make and not path.exists():
            raise FileNotFoundError(
                f"there is no result store {path}; meta-lr results import FOLDER makes one of runs"
            )
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self.path, self._make = path, make
        self._opened: sqlite3.Connection | None = None
        if path.exists():
            self._opened = _connected(path) if make else _connected_to_read(path)

    def put(self, results: Iterable[Result]) -> int:
        """Write results, all or none, and return the number of new keys.

        A result replaces an earlier one with the same key. There is one exception: the result of a
        run that was stopped early does not replace that of a run that ended or took more steps.

        Raises:
            OSError: The file cannot be written, or other processes kept it busy for a minute.
            ValueError: The file is damaged.
        """
        rows = [[_to_column(getattr(result, name)) for name in _COLUMNS] for result in results]
        connection = self._connection
        with _told(self.path), _transaction(connection) as run:
            if _is_empty(connection, self.path):
                run(_TABLE)
                run(f"PRAGMA application_id = {APPLICATION}")
                run(f"PRAGMA user_version = {FORMAT}")
            (before,) = run("SELECT count(*) FROM results").fetchone()
            connection.executemany(_PUT, rows)
            (after,) = run("SELECT count(*) FROM results").fetchone()
        return after - before

    def find(
        self,
        *,
        task: str | None = None,
        model: str | None = None,
        optimizer: str | None = None,
        policy: str | None = None,
    ) -> list[Result]:
        """Return the results with exactly these values, in the order of their keys.

        Raises:
            ValueError: The file is damaged.
            OSError: The file cannot be read.
        """
        wanted = {"task": task, "model": model, "optimizer": optimizer, "policy": policy}
        asked = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(["TRUE", *(f"{name} = ?" for name in asked)])
        query = f"SELECT {', '.join(_COLUMNS)} FROM results WHERE {where} ORDER BY {', '.join(KEY)}"
        if self._opened is None and not self.path.exists():
            return []
        with _told(self.path):
            if _is_empty(self._connection, self.path):
                return []
            rows = self._connection.execute(query, list(asked.values())).fetchall()
        return [_result(self.path, row) for row in rows]

    def close(self) -> None:
        """Close the file; the last process that closes it also removes SQLite's extra files."""
        if self._opened is not None:
            with _told(self.path):
                self._opened.close()

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            if self._make:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._opened = _connected(self.path)
        return self._opened

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connected(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that is a store, or an empty file."""
    with _told(path):
        connection = _opened(path, "mode=rwc")
        with suppress(sqlite3.OperationalError):  # another process does it
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    return connection


def _connected_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection to a store that may be read-only.

    SQLite's readers also write, to files next to the store. If they cannot write, no other process
    can, so the store is read as a file that does not change. This needs an empty log.
    """
    log = path.with_name(path.name + "-wal")
    with _told(path):
        try:
            return _opened(path, "mode=rw")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or (log.exists() and log.stat().st_size):
                raise
            return _opened(path, "mode=ro&immutable=1")


def _opened(path: Path, options: str) -> sqlite3.Connection:
    place = f"{path.absolute().as_uri()}?{options}"
    with ExitStack() as undo:
        connection = sqlite3.connect(place, timeout=PATIENCE, isolation_level=None, uri=True)
        undo.callback(connection.close)
        _is_empty(connection, path)  # refuse other files before anything is changed
        undo.pop_all()
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[Callable[[str], sqlite3.Cursor]]:
    """Yield `execute` inside a transaction, after waiting for others; an error rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection.execute
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Read a consistent snapshot of the file inside the block, while other processes write."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Return whether the file is still empty (True) or a store already (False).

    Raises:
        ValueError: The file is something else.
    """
    with _one_moment(connection):  # another process may be making the store
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not application and not version:
        return True
    if application != APPLICATION:
        raise ValueError(
            f"{path} is an SQLite file of another program, no result store; pass another one"
        )
    if version > FORMAT:
        raise ValueError(
            f"{path} has format {version}, this meta_lr reads {FORMAT}; install a newer meta_lr"
        )
    return False


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn errors of SQLite into errors that say what to do."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _explained(path, error) from error


def _explained(path: Path, error: sqlite3.DatabaseError) -> Exception:
    said = str(error)
    numbers = {"disk is full": errno.ENOSPC, "readonly": errno.EACCES, "unable to": errno.EACCES}
    for words, number in numbers.items():
        if words in said:
            return OSError(number, os.strerror(number), str(path))
    if "locked" in said:
        return TimeoutError(
            f"{path} was kept busy by other processes for {PATIENCE:g} s; try again"
        )
    if isinstance(error, sqlite3.OperationalError) and not re.search("no such|unsupported", said):
        return OSError(  # an error of the system; the file itself is valid
            f"{path} cannot be read or written ({said}): the disk may be full, over its quota or "
            "failing; make room, and the same command goes on"
        )
    return _damaged(path, said)


def _damaged(path: Path, said: str) -> ValueError:
    return ValueError(
        f"{path} is damaged, or no result store ({said}); "
        "move it away, and make another one with meta-lr results import"
    )


def _to_column(value: object) -> object:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, tuple) else value


def _result(path: Path, row: tuple[object, ...]) -> Result:
    values = dict(zip(_COLUMNS, row, strict=True))
    try:
        return Result(**{**values, "curve": parse_json(str(values["curve"]))})
    except (TypeError, ValueError) as error:
        raise _damaged(path, str(error)) from error
