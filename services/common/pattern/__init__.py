"""Patterns as programs: `predict` what a feature does at every token, `validate` what
came from outside, `describe` it to people. The message is
`saexplain.common.v1.Pattern`; agent, scorer and report read it here and nowhere else.
"""

from services.common.pattern.describe import describe, describe_part, matcher_text, visible
from services.common.pattern.evaluate import (
    CompiledPattern,
    compile_pattern,
    predict,
    predict_window,
)
from services.common.pattern.validate import validate

__all__ = [
    "CompiledPattern",
    "compile_pattern",
    "describe",
    "describe_part",
    "matcher_text",
    "predict",
    "predict_window",
    "validate",
    "visible",
]
