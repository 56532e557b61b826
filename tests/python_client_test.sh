#!/usr/bin/env bash
# Builds the Python client as pip would, into an empty folder, and tests it against a real server.
#   python_client_test.sh BUILD_DIR
set -euo pipefail
# shellcheck source=tests/start_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/start_server.sh"
bin=$(realpath "$1")/bin
tests=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
python=/usr/bin/python3  # whose packages are Debian's

folder=$(mktemp -d)
trap 'kill_server; rm -rf "$folder"' EXIT
cp -r "$tests/../client" "$tests/../proto" "$folder"  # a build writes beside its sources
(cd "$folder/client/python" && "$python" setup.py --quiet build --build-lib "$folder/lib")
start_server "$bin" --device cpu --state-dir "$folder/state" 2>"$folder/log"
export RASQ_ADDRESS=$address PYTHONPATH=$folder/lib
for test in pieces client; do
  "$python" -W error::ResourceWarning "$tests/client/python/${test}_test.py" --verbose ||
    { cat "$folder/log"; exit 1; }
done
stop_server
