"""Where a corpus may lie: the allow-list of URL schemes and folders.

A caller of the API names the corpus and the indexer opens it: what is not on the list is refused
before anything is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.common.errors import InvalidArgument

DATASET_SCHEME = "dataset"
"""``dataset:{name}?split=train&config=…&revision=…``: a Hugging Face dataset, streamed."""


@dataclass(frozen=True)
class LocationPolicy:
    """What an indexer opens.

    Attributes:
        schemes: URL schemes of fsspec, ``file`` for paths, and ``dataset``.
        folders: Local files must lie below one of them; empty for anywhere.
    """

    schemes: tuple[str, ...] = ("file",)
    folders: tuple[Path, ...] = ()

    def check(self, location: str) -> None:
        """Refuse a location that is not on the list; every link of a chained URL counts.

        Raises:
            InvalidArgument: FIELD_INVALID.
        """
        if not location or "\0" in location:
            raise InvalidArgument("a path or URL is needed", field="corpus")
        for link in location.split("::"):
            scheme = scheme_of(link)
            if scheme not in self.schemes:
                message = f"corpora of scheme {scheme!r} are not allowed here, only "
                message += f"{', '.join(self.schemes)} (setting corpus_schemes)"
                raise InvalidArgument(message, field="corpus")
            if scheme == "file" and self.folders:
                self._check_folder(link)

    def _check_folder(self, link: str) -> None:
        path = Path(link.removeprefix("file://")).resolve()
        if not any(path.is_relative_to(folder.resolve()) for folder in self.folders):
            message = "the path lies in none of the folders of the setting corpus_folders"
            raise InvalidArgument(message, field="corpus")


def scheme_of(link: str) -> str:
    """Scheme of a URL; ``file`` for a path."""
    if link.startswith(f"{DATASET_SCHEME}:"):
        return DATASET_SCHEME
    scheme, separator, _ = link.partition("://")
    return scheme.lower() if separator else "file"
