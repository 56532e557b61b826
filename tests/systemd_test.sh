#!/usr/bin/env bash
# The systemd unit, with a build's server in the place of the installed one: systemd understands every
# line, nothing of its sandbox got lost, and the server takes the settings beside it.
#   systemd_test.sh BUILD_DIR
set -euo pipefail
source_dir=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
server=$(realpath "$1")/bin/rasq-server
systemd=$source_dir/deploy/systemd

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed "s#/usr/bin/rasq-server#$server#" "$systemd/rasq-server.service" >"$folder/rasq-server.service"
# An unknown line is a warning, and no failure, to systemd.
systemd-analyze verify "$folder/rasq-server.service" 2>&1 | tee "$folder/complaints"
[[ ! -s "$folder/complaints" ]]
# Tenths of its measure of exposure, 0 to 100: 17 as written, over 90 without the sandbox.
systemd-analyze security --offline=true --threshold=20 "$folder/rasq-server.service" |
  grep 'Overall exposure'

sed "s#/usr/share/rasq/#$source_dir/#" "$systemd/rasq.conf" >"$folder/rasq.conf"
"$server" --config "$folder/rasq.conf" --check-config
