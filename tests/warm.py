"""Real processes without the wait: a server that has imported everything forks one per command.

A child has its own pid, working directory, argv, stdin, stdout and stderr, and runs
`meta_lr/__main__.py` as `python -m meta_lr` does; its exit code is the system's. Two things are
not as in a new process, so some slow tests run commands in new ones too:
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
import time
import traceback
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

COMMANDS = "train meta_train meta_train_episodic transfer check_hypergrad jobs".split()
LIBRARIES = "hydra sklearn.datasets torchvision matplotlib.figure matplotlib.backends.backend_svg"
WARM = [*LIBRARIES.split(), *(f"meta_lr.cli.{name}" for name in COMMANDS)]
SECONDS = 300  # a child is ended after these


class Done(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


class Child:
    """A process of the server, with as much of `subprocess.Popen` as is used."""

    def __init__(self, ask, pid, out, err):
        self.pid, self.returncode = pid, None
        self._ask, self._out, self._err = ask, out, err

    def poll(self):
        """Return the exit code, or None while the process runs."""
        if self.returncode is None:
            self.returncode = self._ask({"poll": self.pid})
        return self.returncode

    def wait(self):
        """Return the exit code once the process has ended."""
        if self.returncode is None:
            self.returncode = self._ask({"wait": self.pid})
        return self.returncode

    def reads(self, text):
        """Return what the process has printed, once that holds `text`."""
        while text not in (printed := self._out.read_text()):
            assert self.poll() is None, "it ended before"
            time.sleep(0.005)
        return printed

    def send_signal(self, number):
        """Send a signal, unless the process is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """End the process at once."""
        self.send_signal(signal.SIGKILL)

    def done(self):
        """Return how the process ended, once it has."""
        return Done(self.wait(), self._out.read_text(), self._err.read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.wait()


class Server:
    """Starts processes of `meta_lr` that have all their imports at once."""

    def __init__(self, server, scratch):
        self._server, self._scratch, self._started = server, scratch, 0

    def _ask(self, question):
        print(json.dumps(question), file=self._server.stdin, flush=True)
        return json.loads(self._server.stdout.readline())

    def start(self, place, arguments, env=None):
        """Start a command in folder `place`, with changes `env` to the environment."""
        self._started += 1
        out, err = (self._scratch / f"{name}-{self._started}" for name in ("out", "err"))
        out.touch()
        job = {"place": str(place), "arguments": arguments, "out": str(out), "err": str(err)}
        return Child(self._ask, self._ask({"start": job | {"env": env or {}}}), out, err)

    def run(self, place, arguments):
        """Run a command in folder `place` to its end."""
        return self.start(place, arguments).done()


@contextmanager
def warm_server(scratch):
    """Give a `Server`; what its processes print is kept in `scratch`."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "tests.warm"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, env=one_thread, **pipes) as server:
        yield Server(server, scratch)
        server.stdin.close()


def fresh(place, arguments):
    """Run a command in a new process."""
    command = [sys.executable, "-m", "meta_lr", *arguments]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    return Done(done.returncode, done.stdout, done.stderr)


def ended(pid, options):
    """Return the exit code of a child, or None while it runs."""
    pid, status = os.waitpid(pid, options)
    return os.waitstatus_to_exitcode(status) if pid else None


def serve():
    """Answer each line of stdin; return the job in a child that was forked for it, else None."""
    for line in sys.stdin:
        ((what, given),) = json.loads(line).items()
        if what == "start":
            answer = os.fork()
            if answer == 0:
                return given
        else:
            answer = ended(given, os.WNOHANG if what == "poll" else 0)
        print(json.dumps(answer), flush=True)
    return None


def become(job):
    """Take the place of a new process that was started with these arguments."""
    signal.alarm(SECONDS)
    os.environ.update(job["env"])
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
