"""Plan and run record of a made dossier."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from saexplain.activation.v1.activation_pb2 import NumericsContract, Sae
from saexplain.agent.v1 import agent_pb2 as agent
from saexplain.common.v1 import usage_pb2 as usage_pb
from saexplain.explanation.v1 import dossier_pb2 as dossier_pb
from saexplain.scorer.v1.scorer_pb2 import MethodOptions
from services.cli.testing.sketch import Parts


class ProvenanceParts(Parts):
    """What was fixed beforehand, and how the run went."""

    def _plan(self) -> dossier_pb.Plan:
        return dossier_pb.Plan(
            feature=self._name,
            index="projects/default/indexes/1f0c9a7be2d34411",
            sae=Sae(
                name="saes/demo",
                model="SmolLM2-135M-Instruct" + self._hostile,
                hook_point="blocks.8.hook_resid_post",
                architecture="topk",
                d_in=576,
                d_sae=4608,
                numerics=NumericsContract(
                    prepend_bos=True,
                    bos_token_id=1,
                    unscored_position_count=1,
                    max_token_count=128,
                    normalize_activations="none",
                    compute_dtype="float32",
                    model_fingerprint="a1" * 32,
                    sae_fingerprint="b2" * 32,
                    tokenizer_fingerprint="c3" * 32,
                    relative_tolerance=1e-4,
                ),
            ),
            explainer=agent.ExplainerOptions(explainer=self._explainer, version="1", seed=11),
            methods=[
                MethodOptions(method=name, version="1", judge="pattern", seed=11)
                for name in ("corpus", "generative", "predictive")
            ],
            thresholds=dossier_pb.Thresholds(
                active_share=0.5,
                silent_share=0.1,
                required_rate=0.7,
                support_probability=0.9,
                refute_probability=0.1,
                ambiguity_share=1e-4,
            ),
            budget=dossier_pb.Budget(
                max_round_count=4, max_llm_token_count=200_000, max_probe_count=400
            ),
            prompt_fingerprint="" if self._explainer == "lexical" else "f4" * 32,
            seed=11,
        )

    def _run(self) -> dossier_pb.RunRecord:
        usage = usage_pb.LlmUsage()
        if self._explainer != "lexical":
            call = usage_pb.LlmCall(
                step="propose_hypotheses",
                model="gpt-5-mini",
                outcome=usage_pb.LLM_CALL_OUTCOME_OK,
                prompt_token_count=5200,
                completion_token_count=840,
            )
            usage = usage_pb.LlmUsage(
                prompt_token_count=20_800,
                cached_prompt_token_count=9_000,
                completion_token_count=3_360,
                reasoning_token_count=900,
                request_count=4,
                failed_request_count=1,
                reused_reply_count=1,
                cost=0.0132,
                currency_code="USD",
                calls=[call] * 4,
            )
        return dossier_pb.RunRecord(
            start_time=Timestamp(seconds=1_790_000_000),
            end_time=Timestamp(seconds=1_790_000_009),
            usage=usage,
            activation_backend="in_process",
            software_version="0.1.0",
        )
