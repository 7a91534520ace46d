#!/usr/bin/env bash
# Generates Python and stubs from protos/**/*.proto, beside them. With --check: fails if what is committed differs.
set -euo pipefail
bin=.venv/bin
out=protos
[ "${1:-}" = --check ] && { out=$(mktemp -d); trap 'rm -rf "$out"' EXIT; }
mapfile -t sources < <(cd protos && find parkgate -name '*.proto' | sort)
PATH="$PWD/$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I protos \
    --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="$out" "${sources[@]}" 2> >(grep -v "^Writing mypy" >&2)
find "$out/parkgate" -name '*_pb2*' -path '*grpc*' -size 0 -delete
if [ "$out" != protos ]; then
    diff -r -x '*.proto' -x '__init__.py' -x '__pycache__' -x '*.md' -x 'py.typed' "$out/parkgate" protos/parkgate \
        || { echo "The generated protocol code is not what the .proto files say: run 'make protos' and commit it." >&2; exit 1; }
    echo "Generated protocol code matches the .proto files."
fi
