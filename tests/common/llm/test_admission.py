"""Guards the limits towards a provider as arithmetic on a virtual clock: they hold in every
minute, an outage is neither hammered nor rushed back to, and turns are fair."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from services.common.llm.admission import (
    LimitState,
    RatePolicy,
    Ticket,
    Turns,
    admit,
    after_answer,
    after_failure,
    in_turn,
)

FREE = RatePolicy()
T0 = 1_000_000.0


def _ticket(number: int, project: str = "p", campaign: str = "", tokens: int = 100) -> Ticket:
    return Ticket(f"{project}/{campaign}/{number}", project, campaign, tokens)


def _one(state: LimitState, policy: RatePolicy, now: float, tokens: int = 100):
    """Asks for a call nobody waits beside."""
    mine = _ticket(0, tokens=tokens)
    return admit(state, policy, now, [mine], mine)


def _drain(state, policy, now, waiting):
    """Admits whoever may be, asking in a random order; returns them in the order they went."""
    went = []
    progress = True
    asking = random.Random(7)
    while progress:
        progress = False
        for ticket in asking.sample(waiting, len(waiting)):
            state, found = admit(state, policy, now, waiting, ticket)
            if found.admitted:
                waiting.remove(ticket)
                went.append(ticket)
                progress = True
    return state, went


@pytest.mark.parametrize("seed", range(5))
def test_no_minute_holds_more_than_the_limit_and_its_burst(seed: int) -> None:
    """Negative control: nearly the limit is used, too."""
    policy = RatePolicy(requests_per_minute=60, tokens_per_minute=6000, burst_seconds=10)
    asking, state, now = random.Random(seed), LimitState(), T0
    sent: list[tuple[float, int]] = []
    while now < T0 + 300:
        tokens = asking.randrange(1, 400)
        state, found = _one(state, policy, now, tokens)
        if found.admitted:
            sent.append((now, tokens))
        else:
            now += found.wait_seconds * asking.choice([0.3, 1.0, 1.2]) + 1e-3
    for start, _ in sent:
        minute = [tokens for time, tokens in sent if start <= time < start + 60]
        assert len(minute) <= 70
        assert sum(minute) <= 7000 + 400
    assert sum(tokens for _, tokens in sent) > 0.85 * 5 * 6000


def test_a_call_larger_than_all_that_can_be_saved_up_goes_and_leaves_a_debt() -> None:
    policy = RatePolicy(tokens_per_minute=600, burst_seconds=10)
    state, first = _one(LimitState(), policy, T0, 1000)
    state, second = _one(state, policy, T0, 10)
    assert first.admitted
    assert second.wait_seconds == pytest.approx((1000 - 100 + 10) / 10)


def test_what_a_call_did_not_use_is_given_back_but_no_more_than_can_be_saved() -> None:
    policy = RatePolicy(tokens_per_minute=600, burst_seconds=10)
    state, _ = _one(LimitState(), policy, T0, 100)
    part = after_answer(state, policy, T0, sent_time=T0, unused_token_count=60)
    assert part.token_level == pytest.approx(60)
    most = after_answer(state, policy, T0, sent_time=T0, unused_token_count=10_000)
    assert most.token_level == pytest.approx(100)


def test_a_clock_that_goes_back_refills_nothing() -> None:
    policy = RatePolicy(requests_per_minute=60, burst_seconds=1)
    state, _ = _one(LimitState(), policy, T0)
    state, found = _one(state, policy, T0 - 100)
    assert not found.admitted
    assert state.refill_time == T0


def _fail(state, now, sent, *, reason="LLM_UNAVAILABLE", delay=None, policy=FREE):
    return after_failure(state, policy, now, sent_time=sent, reason=reason, delay_seconds=delay)


def test_a_429_stops_everybody_for_its_delay_and_then_one_probes() -> None:
    state = _fail(LimitState(), T0, T0 - 1, reason="RATE_LIMITED", delay=7.0)
    state, early = _one(state, FREE, T0 + 6.9)
    assert (early.admitted, early.reason) == (False, "RATE_LIMITED")
    assert early.wait_seconds == pytest.approx(0.1)
    state, probe = _one(state, FREE, T0 + 7)
    state, beside = _one(state, FREE, T0 + 7.1)
    assert (probe.admitted, beside.admitted) == (True, False)
    # A probe whose process died does not stop everybody for ever.
    assert _one(state, FREE, T0 + 7 + FREE.probe_seconds)[1].admitted


def test_a_delay_beyond_the_longest_pause_is_cut() -> None:
    state = _fail(LimitState(), T0, T0, reason="RATE_LIMITED", delay=86_400)
    assert state.pause_end_time == T0 + FREE.longest_pause_seconds


def test_failures_in_a_row_open_the_circuit_once_and_probes_that_fail_double_it() -> None:
    state = LimitState()
    for number in range(FREE.failure_threshold):
        assert state.pause_reason is None
        state = _fail(state, T0 + number, T0)
    opened, now = state, T0 + FREE.failure_threshold - 1
    assert state.pause_end_time == now + 1
    # The rest of the herd was sent before and says nothing new.
    for _ in range(50):
        state = _fail(state, now + 0.5, T0)
    assert state == opened
    lengths = []
    for _ in range(10):
        now = state.pause_end_time
        state, probe = _one(state, FREE, now)
        assert probe.admitted
        state = _fail(state, now + 0.1, now)
        lengths.append(state.pause_end_time - now - 0.1)
    assert lengths == pytest.approx([2, 4, 8, 16, 32, 64, 128, 256, 300, 300])


def test_answers_between_failures_keep_the_circuit_closed() -> None:
    """Negative control: one call in three failing is no outage."""
    state = LimitState()
    for number in range(60):
        now = T0 + number
        if number % 3:
            state = after_answer(state, FREE, now, sent_time=now, unused_token_count=0)
        else:
            state = _fail(state, now, now)
    assert state.pause_reason is None


def test_an_answer_from_before_the_pause_does_not_end_it() -> None:
    state = _fail(LimitState(), T0, T0 - 5, reason="RATE_LIMITED", delay=30)
    late = after_answer(state, FREE, T0 + 1, sent_time=T0 - 2, unused_token_count=0)
    still = after_answer(state, FREE, T0 + 31, sent_time=T0 - 2, unused_token_count=0)
    assert late.pause_reason == still.pause_reason == "RATE_LIMITED"
    ended = after_answer(state, FREE, T0 + 31, sent_time=T0 + 30, unused_token_count=0)
    assert ended.pause_reason is None


def test_after_an_outage_a_thousand_callers_come_back_by_doubling() -> None:
    """All at once would bring the provider down again."""
    state = _fail(LimitState(), T0, T0, reason="RATE_LIMITED", delay=10)
    state, _ = _one(state, FREE, T0 + 10)
    start = T0 + 11
    state = after_answer(state, FREE, start, sent_time=T0 + 10, unused_token_count=0)
    admitted = 0
    for step in range(11):
        now = start + step
        while True:
            state, found = _one(state, FREE, now)
            if not found.admitted:
                break
            admitted += 1
        assert admitted == int(2 ** (1 + step / 2) + 1e-9)
        assert 0 < found.wait_seconds <= 2
    assert all(_one(state, FREE, start + 20)[1].admitted for _ in range(1000))


def test_a_failure_while_coming_back_pauses_at_once_and_longer() -> None:
    state = _fail(LimitState(), T0, T0, reason="RATE_LIMITED", delay=10)
    state, _ = _one(state, FREE, T0 + 10)
    state = after_answer(state, FREE, T0 + 11, sent_time=T0 + 10, unused_token_count=0)
    state = _fail(state, T0 + 12, T0 + 11)
    assert state.pause_reason == "LLM_UNAVAILABLE"
    assert not _one(state, FREE, T0 + 12)[1].admitted


SCARCE = RatePolicy(requests_per_minute=60, burst_seconds=1)


def test_projects_share_evenly_and_so_do_campaigns_within_one() -> None:
    """A campaign of thousands must not starve one explanation beside it."""
    waiting = [_ticket(n, "big", "c1") for n in range(40)]
    waiting += [_ticket(n, "big", "c2") for n in range(10)]
    waiting += [_ticket(n, "small") for n in range(20)]
    state, went = LimitState(), []
    for second in range(40):
        state, gone = _drain(state, SCARCE, T0 + second, waiting)
        went += gone
    assert len(went) == 40
    shares = [sum(t.project == "big" and t.campaign == c for t in went) for c in ("c1", "c2")]
    assert sum(t.project == "small" for t in went) == 20
    assert shares == [10, 10]
    assert [t.id for t in went if t.project == "small"] == [f"small//{n}" for n in range(20)]


def test_a_project_that_comes_later_is_not_owed_for_the_past() -> None:
    waiting = [_ticket(n, "early") for n in range(40)]
    state = LimitState()
    for second in range(10):
        state, _ = _drain(state, SCARCE, T0 + second, waiting)
    waiting += [_ticket(n, "late") for n in range(40)]
    went = []
    for second in range(10, 20):
        state, gone = _drain(state, SCARCE, T0 + second, waiting)
        went += gone
    assert 4 <= sum(t.project == "late" for t in went) <= 6


def test_costly_calls_get_fewer_turns() -> None:
    policy = RatePolicy(tokens_per_minute=6000)
    waiting = [_ticket(n, "dear", tokens=300) for n in range(30)]
    waiting += [_ticket(n, "cheap", tokens=100) for n in range(30)]
    first = in_turn(Turns(), policy, waiting)[:20]
    assert 14 <= sum(t.project == "cheap" for t in first) <= 16


def test_nobody_passes_a_large_call_whose_turn_it_is() -> None:
    policy = RatePolicy(tokens_per_minute=6000, burst_seconds=10)
    large, small = _ticket(0, tokens=900), _ticket(1, tokens=10)
    state = replace(LimitState(), token_level=500.0, refill_time=T0)
    state, found = admit(state, policy, T0, [large, small], small)
    assert not found.admitted
    assert found.wait_seconds == pytest.approx(4.1)
    assert admit(state, policy, T0 + 4.2, [large, small], large)[1].admitted


def test_turns_forget_who_no_longer_waits() -> None:
    """Or the row would grow with every campaign there ever was."""
    state = LimitState()
    for number in range(200):
        waiting = [_ticket(0, f"p{number}", "c"), _ticket(0, f"p{number + 1}", "c")]
        state, _ = admit(state, FREE, T0, waiting, waiting[0])
    assert len(state.turns.finish) <= 64 + 4
    assert len(state.turns.now) <= 64 + 4 + 1
    mine = _ticket(1)
    assert admit(state, FREE, T0, [mine], mine)[0].turns == Turns()
