"""A wrapper that checks a controller during a run; a fault is reported in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

from meta_lr.methods.wrappers import Wrapper
from meta_lr.protocol import Controller, Rate, StepView, UndeclaredError
from meta_lr.testing import faults

PROTOCOL = "keeps the protocol"
READS = "reads only what it declares"


def broken(controller: object, rule: str, what: str) -> AssertionError:
    """Return an error of one line: the rule that `controller` breaks, and how."""
    kind = controller if isinstance(controller, type) else type(controller)
    return AssertionError(f"{kind.__name__} breaks the rule '{rule}': {what}")


@contextmanager
def blamed(controller: object, rule: str, call: str = "the run") -> Iterator[None]:
    """Report an error in the block as a broken rule; the original error is the cause."""
    try:
        yield
    except AssertionError:
        raise
    except UndeclaredError as error:
        raise broken(controller, READS, f"{error}; add it to its needs, or do without") from error
    except Exception as error:
        what = f"{call} raised {type(error).__name__}: {' '.join(str(error).split())}"
        if isinstance(error, FrozenInstanceError):
            what += "; keep what changes in the state"
        raise broken(controller, rule, what) from error


@dataclass(frozen=True)
class Watched(Wrapper):
    """Another controller; a result that breaks the protocol raises an AssertionError."""

    inner: Controller

    def __post_init__(self) -> None:
        with blamed(self.inner, PROTOCOL, "needs"):
            self._look(faults.of_form(self.inner))

    def init(self) -> Any:
        """Return the inner controller's state before the first step."""
        with blamed(self.inner, PROTOCOL, "init()"):
            state = self.inner.init()
        self._look(faults.of_state(state), "from init(), ")
        return state

    def __call__(self, view: StepView, state: Any) -> tuple[Rate, Any]:
        """Return the inner controller's learning rate and next state."""
        at = f"at step {view.step}"
        with blamed(self.inner, PROTOCOL, f"{at}, __call__(view, state)"):
            answer = self.inner(view.seen_by(self.inner), state)
        if not isinstance(answer, tuple) or len(answer) != 2:
            what = f"{at}, it returned {faults.shown(answer)}; return a pair, (rate, state)"
            raise broken(self.inner, PROTOCOL, what)
        rate, new = answer
        self._look(
            faults.of_rate(rate)
            or faults.of_state(new, type(state))
            or faults.of_keeping(view, self.needs, new),
            f"{at}, ",
        )
        return rate, new

    def _look(self, fault: str, when: str = "") -> None:
        if fault:
            raise broken(self.inner, PROTOCOL, when + fault)
