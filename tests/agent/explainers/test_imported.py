"""Guards explanations from elsewhere: passed on within our limits, and with nothing that
nobody here has checked."""

from __future__ import annotations

import pytest

from saexplain.agent.v1 import agent_pb2 as pb
from saexplain.common.v1 import explanation_pb2 as explained
from services.agent.explainers.imported import ImportExplainer
from services.agent.validate import check_step
from services.common.errors import InvalidArgument
from tests.agent.builders import evidence, options, scope


async def _passed_on(given: explained.Explanation) -> explained.Explanation:
    asked = pb.ExplainerOptions(explainer="import", given_explanation=given)
    request = pb.SynthesizeRequest(options=asked, evidence=evidence())
    return (await ImportExplainer().synthesize(request)).explanation


async def test_texts_are_passed_on_and_what_nobody_checked_is_not() -> None:
    given = explained.Explanation(
        status=explained.EXPLANATION_STATUS_NO_EVIDENCE,
        label=" about\n time ",
        description="Words of time.",
        parts=[
            explained.ExplanationPart(
                statement="hours", window_citations=["w"], probe_citations=["p"], recall=0.9
            )
        ],
    )
    found = await _passed_on(given)
    assert found.status == explained.EXPLANATION_STATUS_EXPLAINED
    assert (found.label, found.description) == ("about time", "Words of time.")
    assert found.parts[0] == explained.ExplanationPart(statement="hours")


@pytest.mark.parametrize(
    ("given", "label", "description"),
    [
        (explained.Explanation(label="time"), "time", "time"),
        (explained.Explanation(description="Words\nof time"), "Words of time", "Words\nof time"),
    ],
)
async def test_a_missing_text_is_made_of_the_other(
    given: explained.Explanation, label: str, description: str
) -> None:
    found = await _passed_on(given)
    assert (found.label, found.description) == (label, description)


async def test_long_texts_keep_to_our_limits_and_a_wrong_pattern_is_refused() -> None:
    found = await _passed_on(explained.Explanation(description="word " * 3_000))
    assert len(found.label) <= 100 and len(found.description) <= 4_000
    broken = explained.Explanation(label="x")
    broken.pattern.parts.add().rules.add(strength=-1.0)
    with pytest.raises(InvalidArgument):
        await _passed_on(broken)


@pytest.mark.parametrize(
    ("explainer", "given"),
    [
        ("import", None),
        ("import", explained.Explanation()),
        ("import", explained.Explanation(label="  ")),
        ("sage", explained.Explanation(label="time")),
    ],
)
def test_an_explanation_is_handed_to_import_and_to_nobody_else(
    explainer: str, given: explained.Explanation | None
) -> None:
    asked = options(explainer)
    if given is not None:
        asked.given_explanation.CopyFrom(given)
    with pytest.raises(InvalidArgument) as caught:
        check_step(asked, scope(), evidence(), None, uses_llm=False)
    assert caught.value.violations[0].field == "options.given_explanation"
