"""Guards files of explanations against being scored on another feature."""

from __future__ import annotations

import pytest

from saexplain.common.v1.explanation_pb2 import Explanation
from services.cli.imports import feature_of
from services.common.errors import InvalidArgument
from services.common.explanation_files import ImportedExplanation

BARE = ImportedExplanation("", 7, Explanation(label="time"))
NAMED = ImportedExplanation("saes/demo", 7, Explanation(label="time"))


@pytest.mark.parametrize(
    ("entry", "sae"), [(BARE, "demo"), (BARE, "saes/demo"), (NAMED, ""), (NAMED, "demo")]
)
def test_a_row_explains_the_feature_that_it_or_the_command_names(
    entry: ImportedExplanation, sae: str
) -> None:
    assert feature_of(entry, sae) == "saes/demo/features/7"


@pytest.mark.parametrize(("entry", "sae"), [(BARE, ""), (NAMED, "saes/other"), (BARE, "a/b/c")])
def test_a_row_of_another_sae_or_of_none_is_refused(entry: ImportedExplanation, sae: str) -> None:
    with pytest.raises(InvalidArgument):
        feature_of(entry, sae)
