"""A circuit breaker: closed, open after failures in a row, half-open while one request tries.

Counted are `Unavailable` faults: time-outs, refused connections, 5xx, broken streams. What the
caller did wrong (`Invalid`, `Missing`) shows that the server lives. A request that was given up by
its caller says nothing, unless the server had begun to answer.
"""

import contextlib
import enum
import time
import weakref
from collections.abc import Callable, Iterable, Iterator

import structlog
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from mongars.circuit.settings import CircuitSettings
from mongars.errors import Fault, Unavailable

log = structlog.get_logger()


class State(enum.IntEnum):
    """The state of a circuit, as its metric shows it."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Attempt:
    """One request on its way through the circuit."""

    def __init__(self) -> None:
        self.answered = False
        """Set it once the server began to answer."""


class CircuitBreaker:
    """The circuit to one server; `name` is the server's name in logs and metrics."""

    def __init__(
        self,
        name: str,
        settings: CircuitSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        meter: Meter | None = None,
    ) -> None:
        self.name = name
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._open_s = settings.open_s
        self._open_until: float | None = None
        self._probing = False
        self._last = ""
        _observe(meter or metrics.get_meter("mongars"), weakref.ref(self))

    @property
    def state(self) -> State:
        """Closed, half-open once the next request may try, or open."""
        if self._open_until is None:
            return State.CLOSED
        if self._probing or self._clock() >= self._open_until:
            return State.HALF_OPEN
        return State.OPEN

    @property
    def last_failure(self) -> str:
        """What the last failure said; empty when there was none."""
        return self._last

    def retry_now(self) -> None:
        """Let the next request try, because the server was seen alive."""
        if self._open_until is not None:
            self._open_until = self._clock()

    @contextlib.contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Let one request through and learn from how it ends. Raises `Unavailable` while open."""
        probing = self._admit()
        attempt = Attempt()
        try:
            yield attempt
        except Unavailable as fault:
            self._failed(fault, probing)
            raise
        except Fault:
            self._succeeded()
            raise
        except BaseException:
            if attempt.answered:
                self._succeeded()
            raise
        else:
            self._succeeded()
        finally:
            if probing:
                self._probing = False

    def _admit(self) -> bool:
        """Whether this request is the one that tries; raises while the circuit is open."""
        self.check()
        if self._open_until is None:
            return False
        self._probing = True
        return True

    def check(self) -> None:
        """Raise `Unavailable` at once when no request may go through right now."""
        if self._open_until is None or (self.state is State.HALF_OPEN and not self._probing):
            return
        wait_s = max(0.0, self._open_until - self._clock()) or 1.0
        raise Unavailable(
            f"{self._last} It failed {self._failures} times in a row and is tried again in "
            f"{max(1, round(wait_s))} s.",
            retry_after_s=wait_s,
        )

    def _succeeded(self) -> None:
        if self._open_until is not None:
            log.info("circuit.closed", backend=self.name)
        self._failures = 0
        self._open_s = self._settings.open_s
        self._open_until = None

    def _failed(self, fault: Unavailable, probing: bool) -> None:
        self._failures += 1
        self._last = fault.detail
        if probing:
            self._open_s = min(self._open_s * 2, self._settings.longest_open_s)
        elif self._open_until is not None or self._failures < self._settings.failures:
            return
        self._open_until = self._clock() + self._open_s
        log.warning(
            "circuit.opened", backend=self.name, failures=self._failures, open_s=self._open_s
        )


def _observe(meter: Meter, breaker: "weakref.ref[CircuitBreaker]") -> None:
    """Show the state as `mongars.circuit.state` for as long as the breaker lives."""

    def observed(_: CallbackOptions) -> Iterable[Observation]:
        circuit = breaker()
        if circuit is not None:
            yield Observation(int(circuit.state), {"backend": circuit.name})

    meter.create_observable_gauge(
        "mongars.circuit.state",
        callbacks=[observed],
        description="0 closed, 1 half-open, 2 open.",
    )
