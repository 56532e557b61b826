#!/usr/bin/env bash
# Installs a build into an empty prefix and starts the server from there, in an empty folder: it must
# find its model by itself and stop when it is told to.
#   install_test.sh BUILD_DIR
set -euo pipefail
build=$1

folder=$(mktemp -d)
server=
trap '[[ -z "$server" ]] || kill -KILL "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
cmake --install "$build" --prefix "$folder/prefix" >/dev/null
mkdir "$folder/empty"
cd "$folder/empty"
"$folder/prefix/bin/rasq-server" --version
mkfifo "$folder/out"
"$folder/prefix/bin/rasq-server" --listen 127.0.0.1:0 --metrics-listen '' >"$folder/out" &
server=$!
address=
while read -r line; do
  echo "$line"
  [[ "$line" == "listening on "* ]] && address=${line#listening on } && break
done <"$folder/out"
"$folder/prefix/bin/rasq" --address "$address" model
kill -TERM "$server"
wait "$server"
server=
