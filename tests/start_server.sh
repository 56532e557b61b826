# To be sourced by the tests of installed programs.
# shellcheck shell=bash

# start_server BIN [FLAG...]: starts BIN/rasq-server in the working folder on a port of its own, and
# waits until it listens. Sets `server`, its process id, `address`, and `metrics_address`, which is
# empty unless a --metrics-listen is given.
start_server() {
  local bin=$1 folder line output
  shift
  folder=$(mktemp -d)
  mkfifo "$folder/out"
  "$bin/rasq-server" --listen 127.0.0.1:0 --metrics-listen '' "$@" >"$folder/out" &
  server=$!
  # Stays open: a server that logs to nobody would be told so.
  exec {output}<"$folder/out"
  rm -r "$folder"
  address='' metrics_address=''
  while [[ -z "$address" ]] && read -r -u "$output" line; do
    echo "$line"
    [[ "$line" != "metrics on "* ]] || metrics_address=${line#metrics on }
    [[ "$line" != "listening on "* ]] || address=${line#listening on }
  done
  [[ -n "$address" ]] || { echo "the server did not start" >&2; return 1; }
}

# Asks it to stop; fails if it does not exit with 0.
stop_server() {
  kill -TERM "$server"
  wait "$server"
  server=
}

# For an exit trap: whatever happened, nothing is left running.
kill_server() { [[ -z "${server:-}" ]] || kill -KILL "$server" 2>/dev/null || true; }
