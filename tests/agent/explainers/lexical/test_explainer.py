"""The lexical explainer on features whose rules are known. Load-bearing: the recovered
pattern is compared with the rule on texts that the explainer never saw, and noise must end
in NO_EXPLANATION."""

from __future__ import annotations

import numpy as np
import pytest

from saexplain.activation.v1.activation_pb2 import TokenNeighbors
from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.common.v1 import explanation_pb2 as ex
from saexplain.common.v1 import window_pb2
from saexplain.common.v1.experiment_pb2 import (
    HYPOTHESIS_KIND_POSITIONAL,
    HYPOTHESIS_STATUS_OPEN,
    HYPOTHESIS_STATUS_SUPPORTED,
)
from saexplain.common.v1.text_pb2 import WeightedToken
from services.agent.explainers.lexical import LexicalExplainer
from services.agent.explainers.lexical.cross_validation import (
    MIN_HELD_OUT_CORRELATION,
    held_out_correlation,
)
from services.agent.explainers.lexical.fit import lay_out
from services.agent.validate import check_step
from services.common.errors import InvalidArgument
from services.common.pattern import predict, validate
from tests.agent.explainers.lexical import world

ADVERBS = (" almost", " nearly")


def token_set(tokens, i):
    return 1.0 if tokens[i] in ADVERBS else 0.0


def after_of(tokens, i):
    return 1.0 if tokens[i] == " the" and i > 0 and tokens[i - 1] in (" of", " in") else 0.0


def two_triggers(tokens, i):
    if tokens[i] == " very":
        return 1.0
    return 0.8 if i > 0 and tokens[i - 1] == " was" else 0.0


def numbers(tokens, i):
    return 1.0 if tokens[i].strip().isdigit() else 0.0


def line_start(tokens, i):
    return 1.0 if i > 0 and tokens[i - 1] == "\n" else 0.0


def neighbors(token: str, *near: str) -> TokenNeighbors:
    def weighted(text: str) -> WeightedToken:
        return WeightedToken(token_bytes=text.encode(), weight=0.7)

    return TokenNeighbors(token=weighted(token), neighbors=[weighted(t) for t in near])


def correlation_on_fresh_text(explanation: ex.Explanation, feature: world.Feature) -> float:
    predicted, actual = [], []
    for tokens in world.corpus(seed=99, windows=500):
        shares = predict(
            explanation.pattern, world.span(tokens[world.LEFT :]), world.span(tokens[: world.LEFT])
        )
        predicted += shares.tolist()
        actual += world.activations(feature, tokens)[world.LEFT :]
    return float(np.corrcoef(predicted, actual)[0, 1])


async def one_shot(feature: world.Feature, **how) -> ex.Explanation:
    given = world.evidence(feature, **how)
    return (await world.synthesize(given, await world.propose(given))).explanation


@pytest.mark.parametrize("feature", [token_set, after_of, two_triggers, numbers])
async def test_a_rule_is_recovered_from_samples_and_holds_on_fresh_text(
    feature: world.Feature,
) -> None:
    explanation = await one_shot(feature)
    assert explanation.status == ex.EXPLANATION_STATUS_EXPLAINED
    validate(explanation.pattern)
    assert correlation_on_fresh_text(explanation, feature) > 0.97
    assert explanation.label and explanation.description


async def test_an_unconditional_set_needs_no_condition_and_no_other_token() -> None:
    explanation = await one_shot(token_set)
    rules = [rule for part in explanation.pattern.parts for rule in part.rules]
    assert {rule.token.literal for rule in rules} == {t.encode() for t in ADVERBS}
    assert not any(rule.left for rule in rules)


async def test_a_condition_names_what_must_stand_before() -> None:
    (part,) = (await one_shot(after_of)).pattern.parts
    (rule,) = part.rules
    (condition,) = rule.left
    assert rule.token.literal == b" the" and condition.max_distance == 1
    assert {m.literal for m in condition.any_of} == {b" of", b" in"}


async def test_two_triggers_become_two_parts_with_their_own_recall() -> None:
    explanation = await one_shot(two_triggers)
    assert len(explanation.parts) == len(explanation.pattern.parts) == 2
    for part in explanation.parts:
        assert part.recall > 0.1 and part.precision > 0.8 and part.window_citations


async def test_numbers_are_one_class_and_no_list_of_numbers() -> None:
    """Numbers that the evidence lacks would be missed by a list."""
    (part,) = (await one_shot(numbers)).pattern.parts
    assert [rule.token.WhichOneof("kind") for rule in part.rules] == ["token_class"]


@pytest.mark.parametrize("seed", range(4))
async def test_noise_is_no_explanation(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def noise(tokens, i):
        return float(rng.uniform(0.3, 1)) if rng.random() < 0.005 else 0.0

    given = world.evidence(noise, seed=seed)
    explanation = (await world.synthesize(given, await world.propose(given))).explanation
    assert explanation.status == ex.EXPLANATION_STATUS_NO_EXPLANATION
    assert explanation.status_detail and not explanation.label and not explanation.parts


async def test_shuffled_activations_of_a_real_rule_are_no_explanation() -> None:
    """The null that matters: the same windows and values, at the wrong tokens."""
    given = world.evidence(token_set)
    rng = np.random.default_rng(0)
    for listed in given.windows:
        for window in listed.windows:
            shuffled = rng.permutation(window.activations)
            window.activations[:] = shuffled.tolist()
    explanation = (await world.synthesize(given, await world.propose(given))).explanation
    assert explanation.status == ex.EXPLANATION_STATUS_NO_EXPLANATION


async def test_a_feature_that_never_fires_is_no_evidence() -> None:
    given = world.evidence(lambda tokens, i: 0.0)
    request = pb.ProposeHypothesesRequest(options=world.OPTIONS, evidence=given)
    assert (await LexicalExplainer().propose(request)).no_hypothesis_reason
    explanation = (await world.synthesize(given, pb.RunState())).explanation
    assert explanation.status == ex.EXPLANATION_STATUS_NO_EVIDENCE


async def test_a_feature_of_line_starts_is_positional() -> None:
    given = world.evidence(line_start)
    state = await world.propose(given)
    assert [h.kind for h in state.hypotheses] == [HYPOTHESIS_KIND_POSITIONAL]
    explanation = (await world.synthesize(given, state)).explanation
    assert explanation.status == ex.EXPLANATION_STATUS_POSITIONAL


async def test_hypotheses_are_new_open_and_at_most_as_many_as_asked() -> None:
    given = world.evidence(two_triggers)
    state = await world.propose(given)
    assert [h.id for h in state.hypotheses] == ["h1", "h2"]
    assert all(h.status == HYPOTHESIS_STATUS_OPEN and h.revision == 1 for h in state.hypotheses)
    assert all(h.claimed_windows and h.statement for h in state.hypotheses)
    options = pb.ExplainerOptions(explainer="lexical", hypothesis_count=1)
    assert len((await world.propose(given, options)).hypotheses) == 1


async def test_equal_requests_give_equal_bytes_and_leave_the_request_alone() -> None:
    given = world.evidence(two_triggers)
    before = given.SerializeToString(deterministic=True)
    runs = []
    for _ in range(2):
        state = await world.step(given, await world.propose(given), two_triggers)
        explanation = await world.synthesize(given, state)
        runs.append(state.SerializeToString(deterministic=True))
        runs.append(explanation.SerializeToString(deterministic=True))
    assert runs[:2] == runs[2:]
    assert given.SerializeToString(deterministic=True) == before


async def test_the_order_of_windows_does_not_matter() -> None:
    """Lists may arrive in any order; a fit that depends on it is not reproducible."""
    given = world.evidence(two_triggers)
    turned = pb.Evidence()
    turned.CopyFrom(given)
    del turned.windows[:]
    for listed in reversed(given.windows):
        copy = turned.windows.add()
        copy.CopyFrom(listed)
    one, other = await world.propose(given), await world.propose(turned)
    assert [h.pattern for h in one.hypotheses] == [h.pattern for h in other.hypotheses]


def test_windows_of_another_split_are_refused() -> None:
    """An explainer that saw HELDOUT could not be scored on it."""
    given = world.evidence(token_set)
    given.windows[1].windows[2].split = window_pb2.SPLIT_HELDOUT
    with pytest.raises(InvalidArgument) as error:
        check_step(world.OPTIONS, pb.ProposeHypothesesRequest().scope, given, None, uses_llm=False)
    assert error.value.violations[0].field == "evidence.windows[1].windows[2].split"


async def test_a_neighbour_enters_a_rule_only_after_it_was_measured_active() -> None:
    """The corpus lacks the third word: only probes can find it; the fourth is a decoy."""

    def with_unseen(tokens, i):
        return 1.0 if tokens[i] in (*ADVERBS, " practically") else 0.0

    given = world.evidence(with_unseen, neighbors=[neighbors(" almost", " practically", " hardly")])
    state = await world.propose(given)
    for _ in range(4):
        state = await world.step(given, state, with_unseen)
    explanation = (await world.synthesize(given, state)).explanation
    literals = {r.token.literal for part in explanation.pattern.parts for r in part.rules}
    assert b" practically" in literals
    assert b" hardly" not in literals


async def test_rounds_end_in_support_for_a_true_rule() -> None:
    given = world.evidence(token_set, neighbors=[neighbors(" almost", " nearly")])
    state = await world.propose(given)
    for _ in range(3):
        state = await world.step(given, state, token_set)
    assert [h.status for h in state.hypotheses] == [HYPOTHESIS_STATUS_SUPPORTED]
    explanation = (await world.synthesize(given, state)).explanation
    assert explanation.parts[0].probe_citations


def after_a_stem(tokens, i):
    """“of” behind any of 26 words of three letters that begin alike."""
    return 1.0 if tokens[i] == " of" and i > 0 and tokens[i - 1].startswith(" wa") else 0.0


async def test_a_condition_on_a_stem_is_no_list_of_words() -> None:
    """A list of the words that the evidence holds would miss the others."""
    explanation = await one_shot(after_a_stem)
    (rule,) = [rule for part in explanation.pattern.parts for rule in part.rules]
    (condition,) = rule.left
    assert rule.token.literal == b" of" and condition.max_distance == 1
    assert [m.prefix for m in condition.any_of] == [b"wa"]


def test_noise_does_not_hold_in_other_documents_and_a_rule_does() -> None:
    """The floor must lie between the two: measured on the evidence itself, noise fits well."""
    rng = np.random.default_rng(5)

    def noise(tokens, i):
        return float(rng.uniform(0.3, 1)) if rng.random() < 0.005 else 0.0

    assert held_out_correlation(lay_out(world.evidence(noise))) < 0.1
    assert held_out_correlation(lay_out(world.evidence(token_set))) > 0.9
    assert 0.1 < MIN_HELD_OUT_CORRELATION < 0.9


def test_halves_are_of_other_documents() -> None:
    """A document in both halves would let its own words vouch for themselves."""
    rows = lay_out(world.evidence(token_set))
    halves = [rows.subset(rows.stretch_document % 2 == half) for half in (0, 1)]
    documents = [{s.document for s in half.stretches} for half in halves if half]
    assert not documents[0] & documents[1]
    assert sum(len(half) for half in halves if half) == len(rows)


async def test_a_rule_that_stays_silent_in_every_probe_is_gone() -> None:
    """The corpus alone said so: whatever stood around the word there, not the word, made it
    fire. The other rule, which probes bear out, stays."""
    given = world.evidence(token_set)

    def only_almost(tokens, i):
        return 1.0 if tokens[i] == " almost" else 0.0

    state = await world.propose(given)
    for _ in range(2):
        state = await world.step(given, state, only_almost)
    explanation = (await world.synthesize(given, state)).explanation
    rules = [rule for part in explanation.pattern.parts for rule in part.rules]
    assert {rule.token.literal for rule in rules} == {b" almost"}


async def test_probes_that_refute_every_rule_leave_no_explanation() -> None:
    given = world.evidence(token_set)
    state = await world.propose(given)
    for _ in range(2):
        state = await world.step(given, state, lambda tokens, i: 0.0)
    explanation = (await world.synthesize(given, state)).explanation
    assert explanation.status == ex.EXPLANATION_STATUS_NO_EXPLANATION
    assert "robes" in explanation.status_detail and not explanation.pattern.parts


async def test_tokens_of_the_vocabulary_probe_enter_only_after_they_were_measured() -> None:
    """A carrier of three words is no corpus sentence: the decoy fired there too."""

    def with_unseen(tokens, i):
        return 1.0 if tokens[i] in (*ADVERBS, " practically") else 0.0

    given = world.evidence(with_unseen)
    tops = [(b" practically", 0.9), (b" almost", 0.9), (b" hardly", 0.8)]
    for number in range(3):
        probe = given.vocabulary_probes.add()
        probe.carrier.name = f"short-{number + 1}"
        for token, share in tops:
            probe.top_tokens.add(token_bytes=token, relative_activation=share)
    state = await world.propose(given)
    for _ in range(4):
        state = await world.step(given, state, with_unseen)
    explanation = (await world.synthesize(given, state)).explanation
    literals = {r.token.literal for part in explanation.pattern.parts for r in part.rules}
    assert b" practically" in literals
    assert b" hardly" not in literals
