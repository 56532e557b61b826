#!/usr/bin/env bash
# A real Prometheus with deploy/prometheus scrapes a real server under load: every expression of the
# dashboard, the recording rules and the alerts must return a number, so that no panel is empty and
# no alert is deaf because a metric has another name or label. An alert's comparisons are taken out:
# what it compares must be there.
#   prometheus_test.sh BUILD_DIR
set -euo pipefail
# shellcheck source=tests/start_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/start_server.sh"
tests=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
deploy=$tests/../deploy
bin=$(realpath "$1")/bin
deadline=$((SECONDS + 90))

# Expressions that need not return anything, a line each, and why:
#   absent() speaks only where there is no target at all
without_data='absent(up{job="rasq"})'

folder=$(mktemp -d)
load='' prometheus=''
cleanup() {
  [[ -z "$load" ]] || kill -KILL "$load" 2>/dev/null || true
  [[ -z "$prometheus" ]] || kill -KILL "$prometheus" 2>/dev/null || true
  kill_server
  wait 2>/dev/null || true
  rm -rf "$folder"
}
trap cleanup EXIT

for file in "$deploy"/prometheus/*_rules.yml; do promtool check rules "$file"; done
promtool check config "$deploy/prometheus/prometheus.yml"
promtool test rules "$deploy/prometheus/rules_test.yml"

start_server "$bin" --model "$tests/../models/default" --max-sessions 1 \
  --metrics-listen 127.0.0.1:0 2>"$folder/server.log"

# promtool wants no gauge to end in _total; this one is a total.
curl --silent --fail "http://$metrics_address/metrics" >"$folder/page"
promtool check metrics <"$folder/page" 2>&1 | grep -v '^rasq_session_slots_total ' >"$folder/lint" || true
[[ ! -s "$folder/lint" ]] || { cat "$folder/lint" && exit 1; }
if grep -E '^[a-z_]*:|session_id=' "$folder/page"; then
  echo "the page has the above: a colon in a name, or a session's id" >&2
  exit 1
fi

# Appends and questions, and calls that are refused: no such session, no free slot.
export RASQ_ADDRESS=$address
jq --raw-output .text <"$tests/testdata/streams.jsonl" >"$folder/text"
use() {
  while true; do
    head -c 8000 "$folder/text" | "$bin/rasq" append wire --create --quiet
    "$bin/rasq" ask wire 'Who is the chief of Xenon now?' --max-new-tokens 16
    "$bin/rasq" ask nobody 'Anyone?' || true
    "$bin/rasq" sessions create one-too-many || true
  done
}
use >"$folder/load.log" 2>&1 &
load=$!

# The shipped configuration, with this server as its target and no time to lose.
cp "$deploy"/prometheus/*.yml "$folder"
sed -i "s/127\.0\.0\.1:9464/$metrics_address/" "$folder/targets.yml"
sed -i 's/_interval: 15s/_interval: 1s/' "$folder/prometheus.yml"
prometheus --config.file "$folder/prometheus.yml" --storage.tsdb.path "$folder/data" \
  --web.listen-address 127.0.0.1:0 2>"$folder/prometheus.log" &
prometheus=$!
api=
while [[ -z "$api" ]] && kill -0 "$prometheus"; do
  api=$(sed -n 's/.*"Listening on" address=\([0-9.:]*\).*/\1/p' "$folder/prometheus.log")
  sleep 0.1
done
ask() { # ask PATH [CURL ARGUMENT...]: the answer's data
  local path=$1
  shift
  curl --silent --fail --get "http://$api/api/v1/$path" "$@" | jq .data
}

rules=$(ask rules)
bare() { sed -E 's/ (==|!=|>=|<=|>|<) [0-9.]+//g'; }
{
  jq --compact-output '.groups[].rules[] | select(.type == "recording") | .name, .query' <<<"$rules"
  jq --compact-output '.groups[].rules[] | select(.type == "alerting").query' <<<"$rules" | bare
  jq --compact-output '.panels[].targets[]?.expr' "$deploy/grafana/dashboards/rasq.json"
  jq --compact-output '.annotations.list[].expr' "$deploy/grafana/dashboards/rasq.json" | bare
  jq --compact-output '.templating.list[].query.query? // empty' "$deploy/grafana/dashboards/rasq.json" |
    sed -E 's/label_values\((.*), [a-z]+\)/\1/'
} | sed 's/\$__rate_interval/30s/g; s/\$instance/.*/g' | jq --raw-output 'gsub("\n"; " ")' |
  grep -vxF "$without_data" | sort -u >"$folder/wanted"
count=$(wc -l <"$folder/wanted")
((count > 60)) || { echo "found only $count expressions" >&2 && exit 1; }

# What has not yet returned a number is asked again until the time is over.
returns_a_number() {
  ask query --data-urlencode "query=$1" |
    jq --exit-status 'any(.result[].value[1]; test("^[-+0-9.e]+$"))' >/dev/null
}
while [[ -s "$folder/wanted" ]] && ((SECONDS < deadline)); do
  while read -r expression; do
    returns_a_number "$expression" || echo "$expression"
  done <"$folder/wanted" >"$folder/missing"
  mv "$folder/missing" "$folder/wanted"
done
if [[ -s "$folder/wanted" ]]; then
  tail -n 20 "$folder/load.log" "$folder/server.log"
  echo "no number from these expressions:" >&2
  cat "$folder/wanted" >&2
  exit 1
fi

faulty=$(ask rules | jq --raw-output '.groups[].rules[] | select(.health != "ok") | .name, .lastError')
[[ -z "$faulty" ]] || { echo "rules that fail: $faulty" >&2 && exit 1; }
kill -0 "$server"
echo "$count expressions return numbers, $SECONDS s"
