#!/usr/bin/env bash
# Writes constraints.txt from the present virtual environment.
set -euo pipefail
cd "$(dirname "$0")/.."
{
  echo "# What was tested together. \`make\` installs with these; refresh with scripts/freeze.sh."
  # Local builds (torch's +cpu) have the version of the release they were built from.
  .venv/bin/pip freeze --exclude-editable | grep -v ' @ ' | sed -E 's/\+[a-z0-9.]+$//' | sort -f
} > constraints.txt
