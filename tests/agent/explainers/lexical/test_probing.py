"""Probes of the lexical explainer: new texts, honest predictions, twins that isolate."""

from __future__ import annotations

from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_STATUS_REFUTED,
    HYPOTHESIS_STATUS_REJECTED,
    HYPOTHESIS_STATUS_SUPERSEDED,
    PROBE_ROLE_BOUNDARY,
    PROBE_ROLE_MINIMAL_PAIR,
    PROBE_ROLE_POSITIVE,
)
from services.agent.explainers.lexical import LexicalExplainer
from services.agent.explainers.probe_checks import word_distance
from services.common.pattern import predict
from tests.agent.explainers.lexical import world
from tests.agent.explainers.lexical.test_explainer import after_of, neighbors, token_set


async def designed(feature: world.Feature, **how) -> tuple[pb.Evidence, pb.RunState, list]:
    given = world.evidence(feature, **how)
    state = await world.propose(given)
    state.round = 1
    response = await world.design(given, state)
    assert not response.refused_probes
    return given, state, list(response.probes)


async def test_predictions_are_the_patterns_own_on_the_text_as_it_is_cut() -> None:
    _, state, probes = await designed(after_of)
    for probe in probes:
        tokens = world.TOKENS.findall(probe.text)
        share = predict(state.hypotheses[0].pattern, world.span(tokens)).max()
        assert (share >= 0.5) if probe.predicted_active else (share < 0.1)


async def test_every_hypothesis_gets_the_probes_asked_for_of_every_role() -> None:
    _, _, probes = await designed(
        token_set, neighbors=[neighbors(" almost", " nearly", " quite", " practically")]
    )
    roles = [probe.role for probe in probes]
    assert roles.count(PROBE_ROLE_POSITIVE) == 6
    assert roles.count(PROBE_ROLE_BOUNDARY) == roles.count(PROBE_ROLE_MINIMAL_PAIR) == 3
    assert [probe.id for probe in probes] == [f"p1.{i}" for i in range(1, 13)]


async def test_twins_change_at_most_three_words_of_an_active_probe() -> None:
    _, _, probes = await designed(after_of)
    by_id = {probe.id: probe for probe in probes}
    twins = [probe for probe in probes if probe.role == PROBE_ROLE_MINIMAL_PAIR]
    assert twins
    for twin in twins:
        partner = by_id[twin.twin_probe_id]
        assert partner.predicted_active and not twin.predicted_active
        assert 1 <= word_distance(twin.text, partner.text, 3) <= 3


async def test_no_text_is_measured_twice_or_copied_from_the_evidence() -> None:
    given = world.evidence(token_set)
    state = await world.propose(given)
    texts: list[str] = []
    for _ in range(3):
        state.round += 1
        probes = (await world.design(given, state)).probes
        texts += [probe.text for probe in probes]
        state.results.extend(world.measure(token_set, probes, given.facts.reference_max))
    windows = {
        b"".join(w.tokens.token_bytes).decode() for listed in given.windows for w in listed.windows
    }
    assert len(texts) == len(set(texts)) > 20
    assert not windows & set(texts)


async def test_another_seed_writes_other_probes() -> None:
    given, state, probes = await designed(token_set)
    options = pb.ExplainerOptions(explainer="lexical", seed=4)
    request = pb.DesignProbesRequest(options=options, evidence=given, state=state)
    other = (await LexicalExplainer().design(request)).probes
    assert {probe.text for probe in probes} != {probe.text for probe in other}


async def test_a_condition_that_the_corpus_hid_is_added_after_silent_probes() -> None:
    """In the corpus the word always follows the other one; in carriers it does not."""

    def hidden(tokens, i):
        return 1.0 if tokens[i] == " virtually" and i > 0 and tokens[i - 1] == " quite" else 0.0

    given = world.evidence(hidden)
    for listed in given.windows:
        for window in listed.windows:
            _always_after(window, b" virtually", b" quite")
    state = await world.propose(given)
    assert not any(rule.left for h in state.hypotheses for rule in h.pattern.parts[0].rules)
    state = await world.step(given, state, hidden)
    (changed,) = (h for h in state.hypotheses if h.id == "h1")
    assert changed.revision == 2
    (rule,) = changed.pattern.parts[0].rules
    assert [m.literal for m in rule.left[0].any_of] == [b" quite"]


def _always_after(window, token: bytes, before: bytes) -> None:
    """Replaces the token wherever something else stands before it."""
    stretch = window.tokens.token_bytes
    for i, here in enumerate(stretch):
        previous = stretch[i - 1] if i else window.left_context.token_bytes[-1]
        if here == token and previous != before:
            stretch[i] = b" waa"


async def test_a_refuted_hypothesis_is_split_into_what_works_and_what_does_not() -> None:
    given = world.evidence(token_set, neighbors=[neighbors(" almost", " nearly")])
    state = await world.propose(given)
    assert len(state.hypotheses) == 1

    def mostly_almost(tokens, i):
        # Silent rules are dropped; one that is weak is neither right nor refuted.
        return {" almost": 1.0, " nearly": 0.3}.get(tokens[i], 0.0)

    for _ in range(2):
        state = await world.step(given, state, mostly_almost)
    split = [h for h in state.hypotheses if h.status == HYPOTHESIS_STATUS_SUPERSEDED]
    assert [h.id for h in split] == ["h1"]
    successors = [h for h in state.hypotheses if list(h.parents) == ["h1"]]
    assert len(successors) == 2


async def test_dropped_hypotheses_are_left_as_they_are_and_not_probed() -> None:
    given = world.evidence(after_of)
    state = await world.propose(given)
    state.hypotheses[0].status = HYPOTHESIS_STATUS_REJECTED
    state.round = 1
    assert not (await world.design(given, state)).probes
    after = await world.step(given, state, after_of)
    assert after.hypotheses == state.hypotheses
    state.hypotheses[0].status = HYPOTHESIS_STATUS_REFUTED
    assert not (await world.design(given, state)).probes


async def test_carriers_are_longer_where_short_texts_lose_the_feature() -> None:
    """Below a ceiling of 0.8 a silent probe of a dozen words says little."""
    given = world.evidence(lambda tokens, i: float(tokens[i] == " very"))
    texts = {}
    for ceiling in (None, 0.9, 0.5):
        if ceiling is not None:
            given.ceiling.active_share = ceiling
        designed = await world.design(given, await world.propose(given))
        texts[ceiling] = max(len(p.text.split()) for p in designed.probes)
    assert texts[None] == texts[0.9] < texts[0.5]
