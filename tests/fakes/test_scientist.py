"""Guards that the scripted replies keep reading the prompts that services really send: a
reworded prompt must fail here, not somewhere in a long run."""

from __future__ import annotations

from saexplain.common.v1.explanation_pb2 import Explanation
from saexplain.common.v1.text_pb2 import TokenSpan
from saexplain.common.v1.usage_pb2 import JournalScope, LlmOptions
from saexplain.scorer.v1 import scorer_pb2 as pb
from services.common.database import create_engine
from services.scorer.judges.llm import LlmJudge
from services.scorer.judges.llm_writer import LlmWriter
from tests.fakes import language_model
from tests.fakes.openai_server import FakeOpenAi
from tests.fakes.scientist import REPLIES, strongest_token

_EXPLANATION = Explanation(description='Fires strongly at the token "almost", always.')
_SCOPE = JournalScope(owner="projects/default/explanations/e1", step="score")


def test_the_strongest_token_is_the_one_with_the_most_marks() -> None:
    assert strongest_token("x «␣almost»9 y «␣nearly»4 «␣almost»8 «.»10") == "almost"


async def test_judge_and_writer_are_answered_by_the_explanations_word(database_url: str) -> None:
    tokens = TokenSpan(token_ids=[1, 2, 3], token_bytes=[b"It was", b" almost", b" ten"])
    items = [
        pb.JudgeItem(id="a", task=pb.JUDGE_TASK_PREDICT, tokens=tokens, left_context=tokens),
        pb.JudgeItem(id="b", task=pb.JUDGE_TASK_VERIFY, text="Supper was almost ready."),
        pb.JudgeItem(id="c", task=pb.JUDGE_TASK_VERIFY, text="Supper was ready."),
    ]
    chosen = pb.MethodOptions(llm=LlmOptions(model="m"))
    engine = create_engine(database_url)
    async with FakeOpenAi(REPLIES) as fake:
        model = language_model.connect(engine, fake.base_url)
        judged, _ = await LlmJudge(model).judge(
            pb.JudgeRequest(options=chosen, scope=_SCOPE, explanation=_EXPLANATION, items=items)
        )
        texts, _ = await LlmWriter(model).write(
            pb.PlanScoreRequest(options=chosen, scope=_SCOPE, explanation=_EXPLANATION), 5, 4
        )
        await model.aclose()
    await engine.dispose()
    assert list(judged[0].shares) == [0.0, 1.0, 0.0]
    assert [p.covered for p in judged[1:]] == [True, False]
    assert ["almost" in text.text for text in texts] == [True] * 5 + [False] * 4
