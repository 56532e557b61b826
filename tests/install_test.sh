#!/usr/bin/env bash
# Installs a build into an empty prefix and starts the server from there, in an empty folder: it must
# find its model by itself and stop when it is told to.
#   install_test.sh BUILD_DIR
set -euo pipefail
# shellcheck source=tests/start_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/start_server.sh"
build=$1

folder=$(mktemp -d)
trap 'kill_server; rm -rf "$folder"' EXIT
cmake --install "$build" --prefix "$folder/prefix" >/dev/null
mkdir "$folder/empty"
cd "$folder/empty"
"$folder/prefix/bin/rasq-server" --version
start_server "$folder/prefix/bin"
"$folder/prefix/bin/rasq" --address "$address" model
stop_server
