#!/usr/bin/env bash
# Two servers behind a real HAProxy with deploy/haproxy: each session keeps to one server, both have
# some; a server that drains gets no new ones, and when it dies the sessions of the other go on, and
# one of its own does from a snapshot.
#   haproxy_test.sh BUILD_DIR
set -euo pipefail
# shellcheck source=tests/start_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/start_server.sh"
tests=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
bin=$(realpath "$1")/bin

folder=$(mktemp -d)
servers=() addresses=() proxy=''
cleanup() {
  [[ -z "$proxy" ]] || kill -KILL "$proxy" 2>/dev/null || true
  for server in "${servers[@]}"; do kill_server; done
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT
fail() {
  echo "$*" >&2
  cat "$folder"/*.log >&2
  exit 1
}

for i in 0 1; do
  start_server "$bin" --model "$tests/../models/default" --threads 1 --max-sessions 24 \
    --max-generations 1 --drain-grace 60s --snapshot-dir "$folder/snapshots" 2>"$folder/server-$i.log"
  servers+=("$server") addresses+=("$address")
done

# The shipped configuration, with these servers, and sockets of this folder in place of ports.
sed "s#bind 127\.0\.0\.1:50050#bind unix@$folder/grpc#
     s#bind 127\.0\.0\.1:8405#bind unix@$folder/http#
     s#127\.0\.0\.1:50051#${addresses[0]}#; s#127\.0\.0\.1:50052#${addresses[1]}#
     s/inter 1s/inter 200ms/; s/check 1s/check 500ms/" \
  "$tests/../deploy/haproxy/haproxy.cfg" >"$folder/haproxy.cfg"
haproxy -c -f "$folder/haproxy.cfg"
haproxy -db -f "$folder/haproxy.cfg" >"$folder/haproxy.log" 2>&1 &
proxy=$!

# wait_for METRIC STATE SERVER: until HAProxy's own metrics say so.
wait_for() {
  local try page
  for ((try = 0; try < 300; ++try)); do
    kill -0 "$proxy" || fail "haproxy has ended"
    page=$(curl --silent --unix-socket "$folder/http" http://proxy/metrics || true)
    [[ "$page" != *"haproxy_server_$1{proxy=\"rasq\",server=\"$3\",state=\"$2\"} 1"* ]] || return 0
    sleep 0.1
  done
  fail "$3: its $1 was never $2"
}
wait_for check_status L7OK rasq-1
wait_for check_status L7OK rasq-2

through() { "$bin/rasq" --address "unix:$folder/grpc" "$@"; } # a call through the proxy
sessions_of() { # sessions_of I: ids of the sessions that server I has, by a call of its own
  "$bin/rasq" --address "${addresses[$1]}" --output json sessions list | jq --raw-output .session_id
}

for i in {1..16}; do through sessions create "wire-$i" >/dev/null; done
mapfile -t first < <(sessions_of 0)
mapfile -t second < <(sessions_of 1)
echo "${#first[@]} and ${#second[@]} sessions"
((${#first[@]} + ${#second[@]} == 16)) || fail "16 were created"
((${#first[@]} >= 3 && ${#second[@]} >= 3)) || fail "one server has nearly all"

# Of all calls of a session, over connections of their own, none goes astray.
for i in {1..16}; do
  for text in 'The chief of Xenon is Lena.' ' It rains.'; do
    through append "wire-$i" --quiet <<<"$text"
  done
  through ask "wire-$i" 'Who is the chief of Xenon?' --max-new-tokens 2 >/dev/null
done

# A session that will move: what it says, and a snapshot where both servers find it.
ask_moved() { through ask "${second[1]}" 'Who is the chief of Xenon?' --max-new-tokens 16; }
ask_moved >"$folder/before"
through sessions snapshot "${second[1]}" moved >/dev/null

# A server that drains still answers, for the sake of calls in flight: its check takes it out.
through ask "${second[0]}" 'On and on' --raw --ignore-eos --max-new-tokens 60000 >"$folder/answer" &
until [[ -s "$folder/answer" ]]; do sleep 0.1; done
kill -TERM "${servers[1]}"
wait_for check_status L7TOUT rasq-2
wait_for status DOWN rasq-2
kill -0 "${servers[1]}"
for i in {17..20}; do through sessions create "wire-$i" >/dev/null; done
(($(sessions_of 0 | wc -l) == ${#first[@]} + 4)) || fail "a draining server got a session"

kill -KILL "${servers[1]}"
wait_for check_status L4CON rasq-2
for id in "${first[@]}"; do
  through append "$id" --quiet <<<' It rains again.'
done
# What the dead server had is not there; its share of new sessions is the other's now.
if through sessions get "${second[0]}" >"$folder/lost.log" 2>&1; then fail "a session outlived its server"; fi
grep -q NOT_FOUND "$folder/lost.log" || fail "another error than NOT_FOUND"
# The moved one is found, through the proxy, where the hash now leads, and says the same.
through sessions restore moved "${second[1]}" >/dev/null
ask_moved >"$folder/after"
cmp "$folder/before" "$folder/after" || fail "the moved session says something else"
for i in {21..24}; do through sessions create "wire-$i" >/dev/null; done
(($(sessions_of 0 | wc -l) == ${#first[@]} + 9)) || fail "the 4 new ones are missing"
echo "the sessions of a server go on without the other, $SECONDS s"
