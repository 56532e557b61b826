#!/usr/bin/env bash
# All that needs a GPU: tests, sanitizers, benchmarks, each part or the named ones.
#   gpu.sh PROGRAMS_DIR [PART...]
#     tests      operations against their CPU twins, and the engine's invariants
#     server     rasq-server on all GPUs of the machine, asked over gRPC, stopped and started again
#     answers    the shipped model on the reference's streams
#     sanitizer  the operations' tests under memcheck and racecheck
#     kernels    each operation beside the ceiling that bounds it, at the shape of an 8B model
#     engine     append and generation at that shape, through the engine
#     moves      forks, parking and snapshots beside copies of as many bytes
#     baseline   the same without Rasq: PyTorch with the whole KV cache
# PROGRAMS_DIR is build/cuda/bin or the bin of a bundle made --with-tests. Fails if a part does.
set -uo pipefail
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
programs=$(realpath "$1")
shift
parts=${*:-tests server answers sanitizer kernels engine moves baseline}
export RASQ_SOURCE_DIR=${RASQ_SOURCE_DIR:-$root} RASQ_REQUIRE_GPU=1
failed=()

part() { # part NAME COMMAND...
  local name=$1 begin=$SECONDS
  shift
  printf '\n== %s: %s\n' "$name" "${*##*/}"
  "$@" || failed+=("$name")
  printf '== %s took %s s\n' "$name" "$((SECONDS - begin))"
}
# In several processes at once: most of a sanitizer's time is the processor's.
sanitize() { # sanitize TOOL FILTER
  local shards=8 shard status=0 logs
  logs=$(mktemp -d)
  for ((shard = 0; shard < shards; ++shard)); do
    GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$shard compute-sanitizer --tool "$1" \
      --error-exitcode 1 --print-limit 20 --report-api-errors no \
      "$programs/kernels_test" --gtest_brief=1 --gtest_filter="$2" >"$logs/$shard" 2>&1 &
    echo $! >>"$logs/pids"
  done
  while read -r pid; do wait "$pid" || status=1; done <"$logs/pids"
  cat "$logs"/[0-9]*
  rm -r "$logs"
  return "$status"
}

# Sessions on every GPU, which say the same after the server has ended and another has started.
serve() {
  local folder demo text
  folder=$(mktemp -d)
  text=$RASQ_SOURCE_DIR/tests/gpu.sh
  # shellcheck source=tests/start_server.sh
  source "$(dirname "${BASH_SOURCE[0]}")/start_server.sh"
  local flags=(--device cuda:all --batch-invariant --max-sessions 8 --state-dir "$folder/states"
    --model "$RASQ_SOURCE_DIR/models/default" --durable)
  ask_all() {
    for i in 1 2 3 4; do
      "$programs/rasq" --address "$address" ask "s$i" 'What is this?' --max-new-tokens 64 || return 1
    done
  }
  start_server "$programs" "${flags[@]}" 2>"$folder/log" || return 1
  "$programs/rasq" --address "$address" demo --tokens 100000 >"$folder/demo" 2>&1 &
  demo=$!
  for i in 1 2 3 4; do
    "$programs/rasq" --address "$address" append "s$i" --create <"$text" || return 1
  done
  wait "$demo" || { cat "$folder/demo" && return 1; }
  tail -n 4 "$folder/demo"
  "$programs/rasq" --address "$address" info
  "$programs/rasq" --address "$address" sessions list
  ask_all >"$folder/before" || return 1
  stop_server || return 1
  start_server "$programs" "${flags[@]}" 2>"$folder/log" || return 1
  ask_all >"$folder/after" || return 1
  stop_server || return 1
  cmp "$folder/before" "$folder/after"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
for name in $parts; do
  case $name in
    tests)
      part tests "$programs/kernels_test" --gtest_brief=1 --gtest_filter='*Cuda*'
      part tests "$programs/engine_test" --gtest_brief=1 \
        --gtest_filter='*Invariants*/cuda:*Scores*/cuda:*Devices*/cuda:*Clusters*/cuda:*Summaries*/cuda:*Parking*/cuda:*Snapshot*/cuda:*Durable*/cuda'
      ;;
    server) part server serve ;;
    answers)
      part answers "$programs/engine_test" --gtest_brief=1 \
        --gtest_filter='*ShippedModelTest*/cuda:*ShippedModelTest.AnswersAsReference/bfloat16'
      ;;
    sanitizer)
      # Without what takes the processor longest: its kernels run in other cases.
      light='*Cuda*-SampleCudaTest.Draws:*LargeSelections:*MatchesDouble/1?'
      part memcheck sanitize memcheck "$light"
      # cuBLASLt's kernels order their shared memory by barriers that racecheck takes for races.
      part racecheck sanitize racecheck "$light:*Gemm*:CudaOpsTest*"
      ;;
    kernels) part kernels "$programs/gpu_kernels_bench" ;;
    engine) part engine "$programs/gpu_engine_bench" ;;
    moves)
      part moves "$programs/state_moves_bench" --device=cuda
      part moves "$programs/state_moves_bench" --device=cuda --dummy \
        --model="$RASQ_SOURCE_DIR/models/llama-3.1-8b-shape"
      ;;
    baseline) part baseline python3 "$root/tests/bench/full_kv_baseline.py" ;;
    *) echo "no such part: $name" >&2 && exit 2 ;;
  esac
done
if ((${#failed[@]} > 0)); then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "ALL PASSED"
