"""A shared prefix must give what a row of its own gives: the load-bearing check is the
comparison with the plain encoder on full rows, family by family, with a prefix that is longer
than a sliding window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from services.activation.encoder.continuations import Continuations
from services.activation.encoder.encode import Encoder
from services.activation.encoder.hooks import parse_hook
from services.activation.encoder.model import CutModel, pad_rows
from services.activation.encoder.sae import Sae
from services.activation.encoder.shared_prefix import share_prefix, states_behind
from services.common.errors import InvalidArgument
from tests.activation import tiny

VOCABULARY = 60
PREFIX = np.array([1, 5, 9, 20, 7, 33, 8], dtype=np.int64)
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 0,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_GROUPED),
    "mistral": MistralConfig(**_GROUPED, sliding_window=4),
    "qwen2": Qwen2Config(**{k: v for k, v in _GROUPED.items() if k != "head_dim"}),
    "qwen3": Qwen3Config(**_GROUPED),
    "gemma2": Gemma2Config(**_GROUPED, sliding_window=4, attn_logit_softcapping=2.0),
    "gemma3": Gemma3TextConfig(**_GROUPED, sliding_window=4),
    "gpt_neox": GPTNeoXConfig(**_SIZES),
    "phi": PhiConfig(**_SIZES),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=32,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=0,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_states_behind_a_prefix_equal_those_of_full_rows(family: str) -> None:
    """Guards the attention over shared keys: groups, soft cap, sliding window, positions."""
    torch.manual_seed(0)
    model = CutModel(
        AutoModelForCausalLM.from_config(FAMILIES[family]).eval(), device=torch.device("cpu")
    )
    tokens = torch.arange(VOCABULARY)
    for hook in map(parse_hook, ("blocks.1.hook_resid_post", "blocks.1.hook_mlp_out")):
        found = states_behind(model, share_prefix(model, PREFIX, hook), tokens)
        rows = pad_rows([np.array([*PREFIX, token]) for token in range(VOCABULARY)])
        expected = model.hidden_states(rows, hook)[:, -1]
        assert float(expected.abs().max()) > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_prefix_matters(model: CutModel) -> None:
    """Negative control: the comparison with full rows could pass on an ignored prefix."""
    hook, tokens = parse_hook(tiny.HOOK), torch.arange(40)
    one = states_behind(model, share_prefix(model, PREFIX, hook), tokens)
    other = states_behind(model, share_prefix(model, PREFIX[:-1], hook), tokens)
    assert float((one - other).abs().max()) > 0.1


def test_the_model_attends_as_before_once_a_probe_is_done(model: CutModel) -> None:
    """Guards the switch of the attention implementation, also where the pass fails."""
    hook = parse_hook(tiny.HOOK)
    rows = pad_rows([PREFIX])
    before = model.hidden_states(rows, hook)
    shared = share_prefix(model, PREFIX, hook)
    with pytest.raises(IndexError):
        states_behind(model, shared, torch.tensor([10**6]))
    assert torch.equal(model.hidden_states(rows, hook), before)


@pytest.mark.parametrize("bare", [False, True])
def test_activations_equal_those_of_the_plain_encoder(
    encoder: Encoder, sae: Sae, bare: bool
) -> None:
    """Sparse and dense answers against `Encoder` on the rows `prefix + token`."""
    prefix = PREFIX[:1] if bare else PREFIX
    tokens = np.arange(5, 105, dtype=np.int64)
    rows = [np.array([*prefix, token]) for token in tokens]
    expected = np.stack([row[-1] for row in encoder.encode(sae, rows, range(tiny.D_SAE))])
    continuations = Continuations()
    sparse = continuations.sparse(encoder.model, sae, prefix, tokens)
    found = np.zeros_like(expected)
    found[np.repeat(np.arange(len(tokens)), np.diff(sparse.indptr)), sparse.features] = (
        sparse.values
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    chosen = [7, 3, 90]
    dense = continuations.dense(encoder.model, sae, prefix, tokens, chosen)
    np.testing.assert_allclose(dense, expected[:, chosen], rtol=1e-4, atol=1e-4)
    assert (expected > 0).any()


def test_unknown_tokens_features_and_prefixes_are_refused(encoder: Encoder, sae: Sae) -> None:
    """Each would otherwise raise an index error inside torch."""
    ask, ids = Continuations(), np.arange(3, dtype=np.int64)
    for prefix, tokens in (
        (np.array([10**6]), ids),
        (np.empty(0, np.int64), ids),
        (np.ones(10_000, np.int64), ids),
        (PREFIX, np.array([-1])),
        (PREFIX, np.array([10**6])),
    ):
        with pytest.raises(InvalidArgument):
            ask.sparse(encoder.model, sae, prefix, tokens)
    with pytest.raises(InvalidArgument):
        ask.dense(encoder.model, sae, PREFIX, ids, [tiny.D_SAE])
