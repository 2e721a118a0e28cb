"""Runs one family: every place, every kind of SAE, ours against the references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PretrainedConfig

from benchmarks.exactness.compare import Difference, compare
from benchmarks.exactness.families import VOCABULARY, random_model
from benchmarks.exactness.lens import lens_model
from benchmarks.exactness.references import LensStates, Values, random_rows, sae_lens_values
from benchmarks.exactness.saes import Kind, load_reference, write_sae
from services.activation.encoder.encode import Encoder
from services.activation.encoder.families import NormKind
from services.activation.encoder.fitting import fit
from services.activation.encoder.hooks import Site
from services.activation.encoder.model import CutModel, load_model
from services.activation.encoder.sae import load_sae
from services.activation.encoder.sources import ModelSource, SaeSource
from services.activation.encoder.special_tokens import SpecialTokens
from services.activation.encoder.tokenizer import TextTokenizer

LAYER = 1
SITES: tuple[Site, ...] = tuple(Site)
CENTRED: Mapping[str, Any] = {"center_writing_weights": True}


@dataclass(frozen=True)
class Result:
    """One SAE at one place of one family."""

    family: str
    site: Site
    kind: Kind
    centred: bool
    difference: Difference


class FamilyRun:
    """A random model of one family: ours, cut at the hook, and TransformerLens'."""

    def __init__(self, family: str, config: PretrainedConfig, folder: Path) -> None:
        self.family, self._folder = family, folder
        plain = random_model(config)
        plain.config.architectures = [type(plain).__name__]
        plain.save_pretrained(folder / "model")
        self._plain = plain
        self.rows = random_rows(VOCABULARY)
        self.model: CutModel = load_model(ModelSource(str(folder / "model")), LAYER + 1)
        self.encoder = Encoder(self.model, batch_token_budget=128)
        self.states = LensStates(lens_model(plain), self.rows)
        self._centred: LensStates | None = None

    @property
    def sites(self) -> list[Site]:
        """The places that TransformerLens has in this family."""
        return [site for site in SITES if _name(site) in self.states]

    @property
    def has_layer_norm(self) -> bool:
        """Whether TransformerLens centres this family's writing weights."""
        return self.model.family.norm is NormKind.LAYER

    def check(self, site: Site, kind: Kind, *, centred: bool = False) -> Result:
        """One comparison over all tokens but the first of each row."""
        states = self._centred_states() if centred else self.states
        name = _name(site)
        folder = write_sae(
            self._folder / f"{site.name}-{kind.name}-{centred}".replace(" ", "-"),
            kind,
            name,
            states.flat(name),
            processing=CENTRED if centred else None,
        )
        theirs = sae_lens_values(load_reference(folder), states.raw(name))
        sae = fit(load_sae(SaeSource(str(folder))), self.model, _no_tokenizer())
        features = list(range(sae.feature_count))
        ours = Values(
            np.concatenate(self.encoder.pre_activations(sae, self.rows, features)),
            np.concatenate(self.encoder.encode(sae, self.rows, features)),
        )
        scored = np.concatenate([np.arange(len(row)) > 0 for row in self.rows])
        return Result(
            self.family,
            site,
            kind,
            centred,
            compare(_only(ours, scored), _only(theirs, scored)),
        )

    def check_all(self, kinds: Iterable[Kind]) -> Iterator[Result]:
        """Every place with every kind, and the plain kind on centred weights."""
        kinds = tuple(kinds)
        for site in self.sites:
            for kind in kinds:
                yield self.check(site, kind)
            yield self.check(site, kinds[0], centred=True)

    def _centred_states(self) -> LensStates:
        if self._centred is None:
            lens = lens_model(self._plain, center_writing_weights=True)
            self._centred = LensStates(lens, self.rows)
        return self._centred


def _name(site: Site) -> str:
    return site.value if site is Site.EMBEDDING else f"blocks.{LAYER}.{site.value}"


def _only(values: Values, scored: np.ndarray) -> Values:
    return Values(values.pre[scored], values.activations[scored])


def _no_tokenizer() -> TextTokenizer:
    """An empty one: rows are token ids, and no SAE here leaves special tokens out."""
    from tokenizers import Tokenizer, models

    return TextTokenizer(Tokenizer(models.BPE()), SpecialTokens(bos=1, structural=(1,)))
