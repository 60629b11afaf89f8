from compliance_copilot.rag.breaker import Breaker, BreakerPolicy, Breakers, State


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(BreakerPolicy(failures=2, open_seconds=10, most_open_seconds=30), clock)
    for _ in range(2):
        assert breaker.admit()
        breaker.failed()
    assert breaker.state is State.OPEN
    return breaker


def test_it_opens_after_failures_in_a_row_and_a_success_between_forgets_them() -> None:
    breaker = Breaker(BreakerPolicy(failures=2), Clock())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.admit()
    breaker.failed()
    assert not breaker.admit()


def test_one_probe_at_a_time_goes_through_after_the_wait() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.at = 9.9
    assert not breaker.admit()
    clock.at = 10
    assert breaker.admit()
    assert not breaker.admit()
    breaker.succeeded()
    assert breaker.admit()
    assert breaker.state is State.CLOSED


def test_a_failed_probe_doubles_the_wait_up_to_its_bound() -> None:
    clock = Clock()
    breaker = opened(clock)
    waits = []
    for _ in range(4):
        begun = clock.at
        while not breaker.admit():
            clock.at += 1
        waits.append(clock.at - begun)
        breaker.failed()
    assert waits == [10, 20, 30, 30]


def test_a_probe_that_tells_nothing_leaves_the_next_one_free() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.at = 10
    assert breaker.admit()
    breaker.released()
    assert breaker.admit()


def test_late_failures_of_earlier_calls_do_not_prolong() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.at = 9
    breaker.failed()
    clock.at = 10
    assert breaker.admit()


def test_each_provider_model_and_owner_has_its_own() -> None:
    breakers = Breakers(BreakerPolicy(failures=1))
    breakers.of(("openai", "a", "")).failed()
    assert not breakers.of(("openai", "a", "")).admit()
    assert breakers.of(("openai", "b", "")).admit()
    assert breakers.of(("openai", "a", "own")).admit()
