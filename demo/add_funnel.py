"""Writes the funnel of the demo's index into the SAE's card.

Usage: ``python -m demo.add_funnel --manifest <index>/manifest.json``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from demo.card import add_funnel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the index")
    parser.add_argument("--sae", type=Path, default=Path(__file__).parent / "sae")
    arguments = parser.parse_args()
    manifest = json.loads(arguments.manifest.read_text(encoding="utf-8"))
    index = {
        "fingerprint": manifest["key"],
        "documents": manifest["document_count"],
        "tokens": manifest["token_count"],
    }
    add_funnel(arguments.sae, manifest["funnel"], index)


if __name__ == "__main__":
    main()
