#!/usr/bin/env bash
# From a fresh Debian 12 machine to answers: installs the packages, builds, starts the server with
# the shipped model on a free loopback port, and runs the demo against it. May be run again; exits as
# the demo does.
#
#   deploy/quickstart.sh [flags of `rasq demo`]
#
# RASQ_SKIP_INSTALL=1 leaves the packages alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/packages.sh
source deploy/packages.sh

say() { printf '\n== %s\n' "$*"; }

if [[ "${RASQ_SKIP_INSTALL:-0}" != 1 ]]; then
  say "Installing Debian packages"
  as_root=()
  if [[ $EUID -ne 0 ]]; then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -yq --no-install-recommends "${RASQ_BUILD_PACKAGES[@]}"
fi

say "Building (preset cpu)"
cmake --preset cpu
cmake --build --preset cpu

say "Starting the server"
log=$(mktemp -t rasq-quickstart.XXXXXX)
server=
stop_server() {
  if [[ -n "$server" ]] && kill -0 "$server" 2>/dev/null; then
    say "Stopping the server"
    kill -TERM "$server"
    wait "$server" || true
  fi
  rm -f "$log"
}
trap stop_server EXIT
trap 'exit 130' INT TERM

# With the checkpoint's own 1,024 entries one answer in five of the demo's is wrong.
build/cpu/bin/rasq-server --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 \
  --model models/default --buffer-capacity-tokens 4096 --device cpu >"$log" 2>&1 &
server=$!
address=
for ((i = 0; i < 600; ++i)); do
  address=$(sed -n 's/.*listening on \([0-9.]*:[0-9]*\).*/\1/p' "$log" | head -n 1)
  if [[ -n "$address" ]] || ! kill -0 "$server" 2>/dev/null; then break; fi
  sleep 0.1
done
if [[ -z "$address" ]]; then
  echo "the server did not start:" >&2
  cat "$log" >&2
  exit 1
fi
echo "listening on $address"

say "Running the demo"
status=0
build/cpu/bin/rasq --address "$address" demo "$@" || status=$?
exit "$status"
