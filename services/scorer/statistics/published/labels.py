"""The list of labels that delphi and Neuronpedia look for in a judge's reply."""

from __future__ import annotations

import json
import re

Label = bool | int | float
"""An entry as JSON has it: 0, 1, true, false, but also 0.5 or 2."""

_FIRST_BRACKETS = re.compile(r"\[.*?\]")


def first_list(reply: str | None, count: int) -> list[Label] | None:
    """The first `[...]` on one line of the reply as JSON, if it holds `count` entries.

    None for no reply, no brackets, brackets that hold no JSON list, entries that are no
    numbers, or another number of them; later brackets are not tried.
    """
    found = _FIRST_BRACKETS.search(reply) if reply is not None else None
    if found is None:
        return None
    try:
        labels = json.loads(found.group())
    except ValueError:
        return None
    numbers = all(isinstance(label, bool | int | float) for label in labels)
    return labels if numbers and len(labels) == count else None
