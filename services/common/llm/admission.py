"""Who may send to a provider now: limits per minute, pauses, a ramp, and fair turns.

    calm ── 429, or failures in a row ─→ paused ── its end ─→ one caller probes
     ↑                                     ↑── it fails ───────────┤
     └── ramp over ── ramp: 2, 4, 8, … calls admitted ←── it is answered

Pure: states go in and come out, times are Unix seconds by whatever clock the caller has.
`limits` keeps a state per endpoint and model in the database, shared by all workers.

Turns are start-time fair queueing (Goyal, Vin, Chen 1996) on two levels: projects share a
provider evenly while they wait for it, and so do the campaigns within a project.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

PauseReason = Literal["RATE_LIMITED", "LLM_UNAVAILABLE"]

_MOST_DOUBLINGS = 30
_MOST_DEBTS = 64
"""Projects and campaigns remembered though they do not wait: those that got most."""
_FLOW = "\x1f"


@dataclass(frozen=True)
class RatePolicy:
    """Limits towards one model of one endpoint, over all workers.

    Attributes:
        requests_per_minute, tokens_per_minute: None for no limit.
        burst_seconds: how much of a limit may be saved up while nobody asks.
        failure_threshold: failures in a row after which everybody pauses.
        first_pause_seconds: where the provider names no delay; doubles with each failure.
        longest_pause_seconds: bound of any pause, also of one the provider names.
        ramp_seconds: how long admissions are held down after a pause.
        ramp_doubling_seconds: in which what a ramp has admitted may double.
        probe_seconds: after which a probe nobody has heard of is given up.
        patience_seconds: how long a caller waits for its turn before it is refused.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst_seconds: float = 10.0
    failure_threshold: int = 5
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 300.0
    ramp_seconds: float = 20.0
    ramp_doubling_seconds: float = 2.0
    probe_seconds: float = 60.0
    patience_seconds: float = 20.0

    @property
    def limited(self) -> bool:
        """Whether there is a limit per minute at all."""
        return self.requests_per_minute is not None or self.tokens_per_minute is not None

    @property
    def request_capacity(self) -> float | None:
        """Requests that may be saved up; at least 1."""
        return _capacity(self.requests_per_minute, self.burst_seconds)

    @property
    def token_capacity(self) -> float | None:
        """Tokens that may be saved up; at least 1."""
        return _capacity(self.tokens_per_minute, self.burst_seconds)

    def cost(self, token_count: int) -> float:
        """Seconds of the provider that a call takes up; 1 where nothing is limited."""
        tokens = 60 * token_count / self.tokens_per_minute if self.tokens_per_minute else 0.0
        request = 60 / self.requests_per_minute if self.requests_per_minute else 0.0
        return max(tokens, request) or 1.0


@dataclass(frozen=True)
class Turns:
    """Virtual time of fair queueing.

    Attributes:
        finish: by project, and by project and campaign: when what it got is used up.
        now: virtual time, of all projects under "" and within each project.
    """

    finish: dict[str, float] = field(default_factory=dict)
    now: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LimitState:
    """What is known of one model of one endpoint.

    Attributes:
        request_level, token_level: saved up; below 0 after a call larger than what can
            be saved up. None: as much as can be.
        refill_time: as of when.
        pause_reason: None unless paused or waiting for a probe to be answered.
        pause_time, pause_end_time: of the last pause.
        failure_count: failures in a row, each pause counted once.
        probe_end_time: until when nobody else may probe.
        ramp_start_time: of the last ramp.
        ramp_admitted_count: calls admitted since.
    """

    request_level: float | None = None
    token_level: float | None = None
    refill_time: float = 0.0
    pause_reason: PauseReason | None = None
    pause_time: float = 0.0
    pause_end_time: float = 0.0
    failure_count: int = 0
    probe_end_time: float = 0.0
    ramp_start_time: float | None = None
    ramp_admitted_count: int = 0
    turns: Turns = field(default_factory=Turns)

    def ramping(self, policy: RatePolicy, now: float) -> bool:
        """Whether a pause ended so recently that admissions are held down."""
        start = self.ramp_start_time
        return start is not None and now < start + policy.ramp_seconds

    def calm(self, policy: RatePolicy, now: float) -> bool:
        """Whether only the limits per minute count."""
        return self.pause_reason is None and not self.ramping(policy, now)


@dataclass(frozen=True)
class Ticket:
    """A call that waits for its turn.

    Attributes:
        id: of the call's key: callers of one key share a ticket.
        campaign: empty for explanations of none.
        token_count: worst case.
    """

    id: str
    project: str
    campaign: str
    token_count: int


@dataclass(frozen=True)
class Admission:
    """Whether a call may be sent now.

    Attributes:
        wait_seconds: how long its turn is away, at a guess; 0 if admitted.
        reason: why not now.
    """

    admitted: bool
    wait_seconds: float = 0.0
    reason: PauseReason = "RATE_LIMITED"


def refilled(state: LimitState, policy: RatePolicy, now: float) -> LimitState:
    """The state with what was saved up until now. Time never runs backwards."""
    elapsed = max(0.0, now - state.refill_time)
    return replace(
        state,
        request_level=_refill(
            state.request_level, policy.requests_per_minute, policy.request_capacity, elapsed
        ),
        token_level=_refill(
            state.token_level, policy.tokens_per_minute, policy.token_capacity, elapsed
        ),
        refill_time=max(now, state.refill_time),
    )


def admit(
    state: LimitState, policy: RatePolicy, now: float, waiting: Sequence[Ticket], mine: Ticket
) -> tuple[LimitState, Admission]:
    """Admits `mine` if it fits beside everything whose turn comes before.

    Args:
        waiting: tickets in the order they were drawn, `mine` among them.
    """
    state = refilled(state, policy, now)
    order = in_turn(state.turns, policy, waiting)
    place = next(number for number, ticket in enumerate(order) if ticket.id == mine.id)
    waits = [
        _gate_wait(state, policy, now, place),
        *_bucket_waits(state, policy, order[:place], mine),
    ]
    if max(waits) > 0:
        return state, Admission(False, max(waits), state.pause_reason or "RATE_LIMITED")
    half_open = state.pause_reason is not None
    ramping = state.ramping(policy, now)
    return replace(
        state,
        request_level=_less(state.request_level, 1),
        token_level=_less(state.token_level, mine.token_count),
        probe_end_time=now + policy.probe_seconds if half_open else state.probe_end_time,
        ramp_admitted_count=state.ramp_admitted_count + ramping,
        turns=_charged(state.turns, policy, order, mine),
    ), Admission(True)


def in_turn(turns: Turns, policy: RatePolicy, waiting: Sequence[Ticket]) -> list[Ticket]:
    """Tickets in the order of their turns, those of one campaign as they were drawn."""
    queues: dict[str, dict[str, deque[Ticket]]] = defaultdict(lambda: defaultdict(deque))
    for ticket in waiting:
        queues[ticket.project][ticket.campaign].append(ticket)
    finish, order = dict(turns.finish), []
    while queues:
        project = min(queues, key=lambda name: (_start(finish, turns, "", name), name))
        campaigns = queues[project]
        campaign = min(
            campaigns,
            key=lambda name: (_start(finish, turns, project, _inner(project, name)), name),
        )
        ticket = campaigns[campaign].popleft()
        _charge(finish, turns, ticket, policy.cost(ticket.token_count))
        order.append(ticket)
        if not campaigns[campaign]:
            del campaigns[campaign]
        if not campaigns:
            del queues[project]
    return order


def after_answer(
    state: LimitState, policy: RatePolicy, now: float, *, sent_time: float, unused_token_count: int
) -> LimitState:
    """The state after the provider answered, with what the call did not use given back."""
    state = refilled(state, policy, now)
    if state.token_level is not None and policy.token_capacity is not None:
        level = min(policy.token_capacity, state.token_level + max(0, unused_token_count))
        state = replace(state, token_level=level)
    if state.pause_reason is None:
        quiet = not state.ramping(policy, now)
        return replace(state, failure_count=0 if quiet else state.failure_count)
    if now < state.pause_end_time or sent_time < state.pause_time:
        return state  # sent before the pause: says nothing about now
    return replace(state, pause_reason=None, ramp_start_time=now, ramp_admitted_count=0)


def after_failure(
    state: LimitState,
    policy: RatePolicy,
    now: float,
    *,
    sent_time: float,
    reason: PauseReason,
    delay_seconds: float | None,
) -> LimitState:
    """The state after a 429 or an outage. A delay that the provider names is obeyed by
    all; of calls sent before a pause only that counts, or one outage would be counted
    once for each call in flight."""
    if sent_time < state.pause_time:
        if delay_seconds is None:
            return state
        return _paused(state, policy, now, state.pause_reason or reason, delay_seconds)
    held_down = not state.calm(policy, now)
    count = state.failure_count + 1
    state = replace(state, failure_count=count)
    patient = reason == "LLM_UNAVAILABLE" and delay_seconds is None and not held_down
    if patient and count < policy.failure_threshold:
        return state
    free = policy.failure_threshold if reason == "LLM_UNAVAILABLE" else 1
    doublings = min(max(0, count - free), _MOST_DOUBLINGS)
    backoff = policy.first_pause_seconds * 2**doublings
    return _paused(state, policy, now, reason, backoff if delay_seconds is None else delay_seconds)


def _paused(
    state: LimitState, policy: RatePolicy, now: float, reason: PauseReason, seconds: float
) -> LimitState:
    end = now + min(seconds, policy.longest_pause_seconds)
    return replace(
        state,
        pause_reason=reason,
        pause_time=now,
        pause_end_time=max(end, state.pause_end_time),
        probe_end_time=0.0,
        ramp_start_time=None,
    )


def _gate_wait(state: LimitState, policy: RatePolicy, now: float, place: int) -> float:
    """Seconds until pause, probe or ramp let the ticket with `place` before it through."""
    if state.pause_reason is not None:
        if now < state.pause_end_time:
            return state.pause_end_time - now
        if now < state.probe_end_time:
            return state.probe_end_time - now
        return float(place) * policy.ramp_doubling_seconds
    if state.ramp_start_time is None or not state.ramping(policy, now):
        return 0.0
    # At t into a ramp, 2^(1 + t / doubling) calls may have been admitted.
    needed = math.log2(state.ramp_admitted_count + place + 1) - 1
    passed = now - state.ramp_start_time
    return min(needed * policy.ramp_doubling_seconds, policy.ramp_seconds) - passed


def _bucket_waits(
    state: LimitState, policy: RatePolicy, ahead: Sequence[Ticket], mine: Ticket
) -> list[float]:
    """Seconds until requests and tokens suffice for all ahead and `mine`."""
    waits = []
    if state.request_level is not None and policy.requests_per_minute is not None:
        missing = 1 - (state.request_level - len(ahead))
        waits.append(60 * missing / policy.requests_per_minute)
    capacity = policy.token_capacity
    if state.token_level is not None and policy.tokens_per_minute and capacity is not None:
        level = state.token_level - sum(ticket.token_count for ticket in ahead)
        # What is larger than can be saved up goes when all is there, and leaves a debt.
        missing = min(mine.token_count, capacity) - level
        waits.append(60 * missing / policy.tokens_per_minute)
    # Rounding must not make a caller wait for a billionth of a token.
    return [wait if wait > 1e-6 else 0.0 for wait in waits]


def _charged(turns: Turns, policy: RatePolicy, order: Sequence[Ticket], mine: Ticket) -> Turns:
    """Turns after `mine` was admitted. Once nobody waits, the past is forgotten."""
    if len(order) == 1:
        return Turns()
    finish, now = dict(turns.finish), dict(turns.now)
    now[""] = _start(finish, turns, "", order[0].project)
    first = next(ticket for ticket in order if ticket.project == mine.project)
    now[mine.project] = _start(finish, turns, mine.project, _inner(first.project, first.campaign))
    _charge(finish, turns, mine, policy.cost(mine.token_count))
    names = {ticket.project for ticket in order}
    names |= {_inner(ticket.project, ticket.campaign) for ticket in order}
    debts = {n: v for n, v in finish.items() if n not in names and v > now.get(_parent(n), 0.0)}
    names.update(sorted(debts, key=lambda name: debts[name])[-_MOST_DEBTS:])
    kept = {name: value for name, value in finish.items() if name in names}
    return Turns(kept, {name: value for name, value in now.items() if not name or name in kept})


def _charge(finish: dict[str, float], turns: Turns, ticket: Ticket, cost: float) -> None:
    inner = _inner(ticket.project, ticket.campaign)
    finish[ticket.project] = _start(finish, turns, "", ticket.project) + cost
    finish[inner] = _start(finish, turns, ticket.project, inner) + cost


def _start(finish: dict[str, float], turns: Turns, parent: str, name: str) -> float:
    return max(finish.get(name, 0.0), turns.now.get(parent, 0.0))


def _inner(project: str, campaign: str) -> str:
    return f"{project}{_FLOW}{campaign}"


def _parent(name: str) -> str:
    return name.partition(_FLOW)[0] if _FLOW in name else ""


def _capacity(per_minute: float | None, burst_seconds: float) -> float | None:
    return None if per_minute is None else max(1.0, per_minute * burst_seconds / 60)


def _refill(
    level: float | None, per_minute: float | None, capacity: float | None, elapsed: float
) -> float | None:
    if per_minute is None or capacity is None:
        return None
    return capacity if level is None else min(capacity, level + elapsed * per_minute / 60)


def _less(level: float | None, amount: float) -> float | None:
    return None if level is None else level - amount
