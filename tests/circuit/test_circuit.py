"""When a server that fails is left alone."""

import asyncio
import time

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from mongars.circuit import CircuitBreaker, CircuitSettings, State
from mongars.errors import Invalid, Missing, Unavailable

SETTINGS = CircuitSettings(failures=2, open_s=10, longest_open_s=30)


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("ollama", SETTINGS, clock=clock)


def fail(
    breaker: CircuitBreaker,
    times: int = 1,
    error: BaseException | None = None,
    *,
    answered: bool = False,
) -> None:
    error = error or Unavailable("Nobody answers. Start it.")
    for _ in range(times):
        with pytest.raises(type(error)):
            ask(breaker, error, answered)


def ask(breaker: CircuitBreaker, error: BaseException, answered: bool) -> None:
    with breaker.attempt() as attempt:
        attempt.answered = answered
        raise error


def test_failures_in_a_row_open_it_and_then_nothing_is_let_through(breaker, clock):
    fail(breaker)
    assert breaker.state is State.CLOSED
    fail(breaker)
    assert breaker.state is State.OPEN
    clock.at += 4
    with pytest.raises(Unavailable) as refused, breaker.attempt():
        pytest.fail("an open circuit lets nothing through")
    assert refused.value.retry_after_s == 6
    assert "Nobody answers. Start it." in refused.value.detail


def test_an_answer_between_failures_keeps_it_closed(breaker):
    fail(breaker)
    with breaker.attempt():
        pass
    fail(breaker)
    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("mistake", [Invalid("wrong"), Missing("no such model")])
def test_the_callers_mistakes_do_not_open_it(breaker, mistake):
    fail(breaker, 5, mistake)
    assert breaker.state is State.CLOSED


def test_half_open_lets_one_request_try_and_its_answer_closes_it(breaker, clock):
    fail(breaker, 2)
    clock.at += 10
    assert breaker.state is State.HALF_OPEN
    with breaker.attempt():
        with pytest.raises(Unavailable), breaker.attempt():
            pytest.fail("only one request tries")
        assert breaker.state is State.HALF_OPEN
    assert breaker.state is State.CLOSED


def test_each_try_that_fails_keeps_it_open_twice_as_long_up_to_a_limit(breaker, clock):
    fail(breaker, 2)
    for open_s in (10, 20, 30, 30):
        clock.at += open_s - 1
        assert breaker.state is State.OPEN
        clock.at += 1
        assert breaker.state is State.HALF_OPEN
        fail(breaker)
    assert breaker.state is State.OPEN


def test_a_try_that_its_caller_gave_up_says_nothing_and_leaves_room_for_the_next(breaker, clock):
    fail(breaker, 2)
    clock.at += 10
    fail(breaker, 1, asyncio.CancelledError())
    assert breaker.state is State.HALF_OPEN
    with breaker.attempt():
        pass
    assert breaker.state is State.CLOSED


def test_a_try_that_was_answered_and_then_given_up_closes_it(breaker, clock):
    fail(breaker, 2)
    clock.at += 10
    fail(breaker, 1, asyncio.CancelledError(), answered=True)
    assert breaker.state is State.CLOSED


def test_streams_that_always_break_off_open_it_though_they_began(breaker):
    fail(breaker, 2, answered=True)
    assert breaker.state is State.OPEN


def test_a_server_seen_alive_is_tried_at_once(breaker):
    fail(breaker, 2)
    breaker.retry_now()
    with breaker.attempt():
        pass
    assert breaker.state is State.CLOSED


def test_an_open_circuit_answers_within_fifty_milliseconds():
    breaker = CircuitBreaker("away", SETTINGS)
    fail(breaker, 2)
    began = time.perf_counter()
    with pytest.raises(Unavailable):
        breaker.check()
    assert time.perf_counter() - began < 0.05


def test_its_state_is_a_metric(clock):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    breaker = CircuitBreaker("openai", SETTINGS, clock=clock, meter=provider.get_meter("mongars"))

    def told() -> dict[str, int]:
        data = reader.get_metrics_data()
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        assert metric.name == "mongars.circuit.state"
        return {point.attributes["backend"]: point.value for point in metric.data.data_points}

    assert told() == {"openai": 0}
    fail(breaker, 2)
    assert told() == {"openai": 2}
    clock.at += 10
    assert told() == {"openai": 1}
    provider.shutdown()
