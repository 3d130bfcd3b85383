"""Real processes without the wait: a server that has imported everything forks one per command.

A child has its own pid, working directory, argv, stdin, stdout and stderr, and runs
`meta_lr/__main__.py` as `python -m meta_lr` does; its exit code is the system's. Two things are
not as in a new process, so the slow tests run all commands in new ones too:
the imports are shared, and the interpreter is not taken down piece by piece at the end.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import traceback
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

WARM = "hydra sklearn.datasets torchvision torch meta_lr.cli.jobs meta_lr.cli.train".split()


class Done(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


@contextmanager
def warm_server(scratch):
    """Give a function `(place, arguments) -> Done`; each call is a process in folder `place`."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "tests.warm"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], **pipes) as server:

        def run(place, arguments):
            out, err = scratch / "out", scratch / "err"
            job = {"place": str(place), "arguments": arguments, "out": str(out), "err": str(err)}
            print(json.dumps(job), file=server.stdin, flush=True)
            code = int(server.stdout.readline())
            return Done(code, out.read_text(), err.read_text())

        yield run
        server.stdin.close()


def fresh(place, arguments):
    """Run a command in a new process."""
    command = [sys.executable, "-m", "meta_lr", *arguments]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return Done(done.returncode, done.stdout, done.stderr)


def serve():
    """Fork a child for each line of stdin; return the line's job in the child, None at the end."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return json.loads(line)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, flush=True)
    return None


def become(job):
    """Take the place of a new process that was started with these arguments, for two minutes."""
    signal.alarm(120)
    os.chdir(job["place"])
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    ends = (os.devnull, os.O_RDONLY), (job["out"], writing), (job["err"], writing)
    for number, (path, mode) in enumerate(ends):
        os.dup2(os.open(path, mode, 0o600), number)
    sys.argv[1:] = job["arguments"]
    sys.path[0] = job["place"]  # as `python -m` has it
    code = 1
    try:
        runpy.run_module("meta_lr", run_name="__main__", alter_sys=True)
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # taking the interpreter down would take longer than the command


def warm_up():
    """Do once what every command does first and what leaves nothing but caches behind."""
    for name in WARM:
        import_module(name)
    from hydra import compose, initialize_config_dir

    from meta_lr.cli.conf_files import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        compose("train", ["seed=1"])
    gc.freeze()  # the collector leaves what is there alone, so children go on sharing it


if __name__ == "__main__":
    warm_up()
    job = serve()
    if job is not None:
        become(job)
