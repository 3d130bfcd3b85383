"""What a signal does: the run saves; a launcher's own handler is called once it has saved."""

import signal

import pytest

from meta_lr.cli.signals import graceful_stop
from meta_lr.training.outcome import StoppedError


@pytest.fixture
def handled():
    """The numbers of the signals that a launcher's handler has seen, in a list."""
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGUSR2, before)


def stopped(folder, *signals):
    """Return the exit code of a run that is sent signals and stops after the step."""
    with pytest.raises(SystemExit) as leaving, graceful_stop() as stop:
        assert not stop()
        for number in signals:
            signal.raise_signal(number)
        assert stop()
        raise StoppedError(3, folder)
    return leaving.value.code


def test_sigterm_is_passed_on_to_no_launcher(tmp_path, handled, capfd):
    assert stopped(tmp_path, signal.SIGTERM) == 128 + signal.SIGTERM
    assert handled == []
    assert "the same command goes on from there" in capfd.readouterr().err


@pytest.mark.parametrize("others", [(), (signal.SIGTERM,)])
def test_the_signal_of_a_launcher_is_passed_on_once_the_run_has_saved(tmp_path, handled, others):
    stopped(tmp_path, *others, signal.SIGUSR2)
    assert handled == [signal.SIGUSR2]
    handled.clear()
    stopped(tmp_path, signal.SIGUSR2, *others)  # the time limit after the warning
    assert handled == [signal.SIGUSR2]


def test_a_run_that_ends_nevertheless_is_not_put_into_the_queue_again(handled):
    with graceful_stop() as stop:
        signal.raise_signal(signal.SIGUSR2)
        assert stop()
    assert handled == []


def test_what_a_launcher_raises_is_passed_on(tmp_path):
    def refuses(number, frame):
        raise RuntimeError("timed out too many times")

    before = signal.signal(signal.SIGUSR2, refuses)
    with pytest.raises(RuntimeError, match="too many times"), graceful_stop():
        signal.raise_signal(signal.SIGUSR2)
        raise StoppedError(3, tmp_path)
    signal.signal(signal.SIGUSR2, before)


def test_a_signal_that_nobody_handles_is_left_alone():
    with graceful_stop():
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
