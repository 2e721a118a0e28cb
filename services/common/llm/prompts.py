"""Prompts as template files beside the code that asks, with one fingerprint.

A template `name.md.jinja` renders to the user's message. Values are never templates
themselves: text from a corpus cannot run anything. A missing value is an error.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any

import jinja2

_SUFFIX = ".md.jinja"


class PromptSet:
    """The templates of one package folder.

    Args:
        package: where the folder is, such as `services.agent.explainers.sage`.
        folder: its name.
        base: templates that these stand on; their names must differ.

    Raises:
        ValueError: there is no template in it, or one of a name that `base` has.
    """

    def __init__(
        self, package: str, folder: str = "prompts", *, base: PromptSet | None = None
    ) -> None:
        found = {
            entry.name: entry.read_text(encoding="utf-8")
            for entry in resources.files(package).joinpath(folder).iterdir()
            if entry.name.endswith(_SUFFIX)
        }
        if not found:
            raise ValueError(f"no *{_SUFFIX} in {package}/{folder}")
        if base is not None:
            if twice := found.keys() & base._texts.keys():
                raise ValueError(f"two templates {', '.join(sorted(twice))}")
            found |= base._texts
        self._texts: dict[str, str] = found
        # Prompts are text for a model, not HTML: nothing is to be escaped.
        self._environment = jinja2.Environment(
            loader=jinja2.DictLoader(found),
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=False,
        )
        self.fingerprint = _fingerprint(found)
        """SHA-256 (hex) over names and texts of all templates."""

    def render(self, name: str, **values: Any) -> str:
        """Renders the template `name` (without its suffix).

        Raises:
            jinja2.UndefinedError: the template needs a value that is not given.
        """
        return self._environment.get_template(name + _SUFFIX).render(**values)


def _fingerprint(templates: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for name, text in sorted(templates.items()):
        for part in (name.encode(), text.encode()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()
