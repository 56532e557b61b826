#!/usr/bin/env bash
# A real server under mixed load, with fewer slots than sessions and a durable log, and a report at the
# end. Fails if anything happened that was not provoked, or if memory or open files grew.
#   soak.sh BUILD_DIR [SECONDS=20]
set -euo pipefail
bin=$(realpath "$1")/bin
exec "$bin/soak_bench" "$bin/rasq-server" "${2:-20}"
