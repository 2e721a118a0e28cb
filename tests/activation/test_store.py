"""Many SAEs in one process: loaded once, accounted for before, evicted idle, refused with figures.

Load-bearing: ``test_estimates_cover_what_is_held``, which compares the arithmetic with the bytes of
real tensors. An estimate below the truth would let the process be killed.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from services.activation.encoder.backend import EncoderLimits
from services.activation.encoder.loaded import LoadedSae
from services.activation.encoder.memory import machine_bytes, weight_bytes
from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.parts import LoadedModel, Needs, RealParts
from services.activation.store import SaeStore
from services.activation.triton.repository import TritonModelSpec, TritonSae
from services.common.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from tests.activation import tiny

LIMITS = EncoderLimits(batch_token_budget=64, max_row_tokens=64)
HOOKS = {"shallow": "blocks.0.hook_resid_post", "deep": "blocks.2.hook_resid_post"}


class CountedParts(RealParts):
    """Real parts that count, wait and fail as a test says; sizes are made up where it says so."""

    def __init__(self) -> None:
        self.models: list[int] = []
        self.saes: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failing: set[str] = set()
        self.needs: Needs | None = None

    def measure(self, spec: TritonModelSpec, entry: TritonSae) -> Needs:
        real = super().measure(spec, entry)
        if self.needs is None:
            return real
        return Needs(real.layer_count, self.needs.model_bytes, self.needs.sae_bytes)

    def load_model(self, spec: TritonModelSpec, layer_count: int) -> LoadedModel:
        self.models.append(layer_count)
        return super().load_model(spec, layer_count)

    def load_sae(self, spec: TritonModelSpec, entry: TritonSae, model: LoadedModel) -> LoadedSae:
        self.gate.wait(30)
        self.saes.append(entry.sae_id)
        if entry.sae_id in self.failing:
            raise Unavailable("the hub is down")
        return super().load_sae(spec, entry, model)


@pytest.fixture(scope="module")
def spec(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TritonModelSpec:
    folder = tmp_path_factory.mktemp("saes")
    saes = [
        TritonSae(
            f"{depth}-{number}",
            SaeSource(
                str(
                    tiny.write_sae(
                        folder / f"{depth}-{number}",
                        "standard",
                        seed=number,
                        metadata={"hook_name": hook},
                    )
                )
            ),
        )
        for depth, hook in HOOKS.items()
        for number in range(3)
    ]
    return TritonModelSpec("tiny", ModelSource(str(model_folder)), tuple(saes), limits=LIMITS)


@pytest.fixture
def parts() -> CountedParts:
    return CountedParts()


def store_of(spec: TritonModelSpec, parts: CountedParts, budget: int = 2**40) -> SaeStore:
    return SaeStore(lambda sae_id: spec, budget, parts)


def test_saes_of_one_model_share_its_weights(spec: TritonModelSpec, parts: CountedParts) -> None:
    store = store_of(spec, parts)
    loaded = [store(f"deep-{number}") for number in range(3)] + [store("shallow-0")]
    assert len({id(one.encoder) for one in loaded}) == 1
    assert parts.models == [3]
    facts = store.facts()
    assert (facts.loaded_models, facts.loaded_saes, facts.load_count) == (1, 4, 4)


def test_a_deeper_sae_brings_a_deeper_model_and_callers_keep_theirs(
    spec: TritonModelSpec, parts: CountedParts
) -> None:
    """Guards against a call that runs on weights which were taken away."""
    store = store_of(spec, parts)
    with store.lease("shallow-0") as before:
        deep = store("deep-0")
        assert parts.models == [1, 3]
        assert deep.encoder is not before.encoder
        assert store.facts().loaded_saes == 1
        held = store.facts().used_bytes
        row = np.array([1, 5, 9])
        values = before.encoder.encode(before.sae, [row], [3])[0]
    assert store.facts().used_bytes < held  # the shallow ones left with their last caller
    after = store("shallow-0")
    assert after.encoder is deep.encoder
    np.testing.assert_allclose(after.encoder.encode(after.sae, [row], [3])[0], values, atol=1e-5)


def test_concurrent_first_callers_load_once(spec: TritonModelSpec, parts: CountedParts) -> None:
    store = store_of(spec, parts)
    parts.gate.clear()
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(store, "deep-1") for _ in range(8)]
        parts.gate.set()
        assert len({id(call.result()) for call in calls}) == 1
    assert parts.saes == ["deep-1"]


def test_a_failed_load_is_tried_again_and_harms_nobody(
    spec: TritonModelSpec, parts: CountedParts
) -> None:
    store = store_of(spec, parts)
    store("deep-0")
    used = store.facts().used_bytes
    parts.failing.add("deep-1")
    for _ in range(2):
        with pytest.raises(Unavailable):
            store("deep-1")
    assert store.facts().used_bytes == used
    assert store("deep-0").sae.feature_count == tiny.D_SAE
    parts.failing.clear()
    assert store("deep-1").sae.feature_count == tiny.D_SAE
    assert parts.saes == ["deep-0", "deep-1", "deep-1", "deep-1"]
    assert store.facts().failed_load_count == 2


def test_the_longest_idle_sae_makes_room_and_one_in_use_never_does(
    spec: TritonModelSpec, parts: CountedParts
) -> None:
    parts.needs = Needs(0, model_bytes=100, sae_bytes=10)
    store = store_of(spec, parts, budget=120)
    with store.lease("deep-0"):
        store("deep-1")
        store("deep-2")  # deep-1 is idle, deep-0 was there before but is in use
        assert store.lease_ready("deep-1") is None
        assert store.facts().used_bytes == 120
        with store.lease("deep-1"), pytest.raises(ResourceExhausted) as caught:
            store("deep-2")
    assert caught.value.reason == "MEMORY_EXHAUSTED"
    assert caught.value.retry_after_seconds
    assert caught.value.metadata == {
        "needed_bytes": "10",
        "used_bytes": "120",
        "budget_bytes": "120",
    }
    assert store("deep-2")
    assert store.facts().eviction_count == 3


def test_an_idle_model_makes_room_with_its_saes(spec: TritonModelSpec, parts: CountedParts) -> None:
    parts.needs = Needs(0, model_bytes=100, sae_bytes=10)
    other = TritonModelSpec(
        "other", spec.model, (TritonSae("elsewhere", spec.saes[0].source),), limits=LIMITS
    )
    store = SaeStore(lambda sae_id: other if sae_id == "elsewhere" else spec, 130, parts)
    store("deep-0")
    store("elsewhere")
    assert (store.facts().loaded_models, store.facts().loaded_saes) == (1, 1)
    assert store.lease_ready("deep-0") is None


def test_what_can_never_fit_is_refused_and_evicts_nothing(
    spec: TritonModelSpec, parts: CountedParts
) -> None:
    """Guards against a request that throws everybody's models out and fails all the same."""
    parts.needs = Needs(0, model_bytes=100, sae_bytes=10)
    store = store_of(spec, parts, budget=115)
    store("deep-0")
    parts.needs = Needs(0, model_bytes=100, sae_bytes=20)
    with pytest.raises(FailedPrecondition) as caught:
        store("deep-1")
    assert caught.value.reason == "MEMORY_EXHAUSTED"
    assert caught.value.metadata["needed_bytes"] == "120"
    assert parts.saes == ["deep-0"]
    assert store.lease_ready("deep-0") is not None


def test_an_unknown_sae_is_not_found(spec: TritonModelSpec, parts: CountedParts) -> None:
    with pytest.raises(NotFound) as caught:
        store_of(spec, parts)("nothing")
    assert caught.value.reason == "SAE_NOT_FOUND"


def test_estimates_cover_what_is_held(spec: TritonModelSpec, parts: CountedParts) -> None:
    """Weights by arithmetic against weights in memory: never less, and not by more than the
    margin; the workspace against the widest tensors of a pass."""
    needs = parts.measure(spec, spec.saes[-1])
    loaded = store_of(spec, parts)("deep-2")
    model = sum(p.numel() * p.element_size() for p in loaded.encoder.model.model.parameters())
    sae = sum(w.numel() * w.element_size() for w in loaded.sae.weights.values())
    sae += loaded.sae.decoder_norms.numel() * 4
    tokens = LIMITS.batch_token_budget
    assert model <= weight_bytes(model // 4, 4) < needs.model_bytes
    assert sae + tokens * tiny.D_SAE * 4 <= needs.sae_bytes
    # Exact counts: only margin and workspace lie between estimate and truth.
    wide = 8 * tiny.D_MODEL + 3 * 64 + 4 * tokens
    assert needs.model_bytes == weight_bytes(model // 4, 4) + tokens * wide * 4
    width = 3 * tiny.D_SAE + 2 * tiny.D_MODEL
    assert needs.sae_bytes == weight_bytes(sae // 4, 4) + tokens * width * 4


def test_a_control_groups_limit_counts_where_it_is_less(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  4096 kB\nMemFree: 1 kB\n")
    assert machine_bytes(tmp_path) == 4096 * 1024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    assert machine_bytes(tmp_path) == 4096 * 1024
    (group / "memory.max").write_text("1000000\n")
    assert machine_bytes(tmp_path) == 1_000_000
