#!/usr/bin/env bash
# All that needs a GPU: tests, sanitizers, benchmarks, each part or the named ones.
#   gpu.sh PROGRAMS_DIR [PART...]
#     tests      operations against their CPU twins, and the engine's invariants
#     answers    the shipped model on the reference's streams
#     sanitizer  the operations' tests under memcheck and racecheck
#     kernels    each operation beside the ceiling that bounds it, at the shape of an 8B model
#     engine     append and generation at that shape, through the engine
#     baseline   the same without Rasq: PyTorch with the whole KV cache
# PROGRAMS_DIR is build/cuda/bin or the bin of a bundle made --with-tests. Fails if a part does.
set -uo pipefail
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
programs=$(realpath "$1")
shift
parts=${*:-tests answers sanitizer kernels engine baseline}
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

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
for name in $parts; do
  case $name in
    tests)
      part tests "$programs/kernels_test" --gtest_brief=1 --gtest_filter='*Cuda*'
      part tests "$programs/engine_test" --gtest_brief=1 \
        --gtest_filter='*InvariantsTest*/cuda:*DevicesTest*/cuda:*Clusters*/cuda'
      ;;
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
    baseline) part baseline python3 "$root/tests/bench/full_kv_baseline.py" ;;
    *) echo "no such part: $name" >&2 && exit 2 ;;
  esac
done
if ((${#failed[@]} > 0)); then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "ALL PASSED"
