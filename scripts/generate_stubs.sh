#!/usr/bin/env bash
# Writes the stubs of protos/ into the folder given (default: beside the .proto files).
# The compiler is pinned in .venv-protos and old enough for protobuf 5.29 to read its output.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-protos}
bin=.venv-protos/bin
mapfile -t files < <(cd protos && find saexplain -name '*.proto' | sort)
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I protos \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="quiet:$out" \
  "${files[@]}"
# Files without a service get an empty gRPC stub: leave those out.
find "$out/saexplain" -name '*_pb2_grpc.py*' | while read -r stub; do
  proto="protos/${stub#"$out"/}"; proto="${proto%_pb2_grpc.py*}.proto"
  grep -q '^service ' "$proto" || rm "$stub"
done
