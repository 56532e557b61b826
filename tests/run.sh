#!/usr/bin/env bash
# Every test, on a Debian 12 machine (as root, or with sudo): installs what is missing, builds, then
#   1. all tests of the release build (ctest prints each; those that need a GPU skip), and where
#      there is a CUDA toolkit, that the CUDA backend compiles and links,
#   2. the style: clang-format, and clang-tidy on our own folders,
#   3. the unit and end-to-end tests under the address and undefined-behaviour sanitizers,
#   4. the threaded ones under the thread sanitizer.
# RASQ_SKIP_INSTALL=1 leaves the packages alone. RASQ_TEST_STAGES picks stages, as in "1 3".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=deploy/packages.sh
source deploy/packages.sh

stages=${RASQ_TEST_STAGES:-1 2 3 4}
wants() { [[ " $stages " == *" $1 "* ]]; }
say() { printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }

if [[ "${RASQ_SKIP_INSTALL:-0}" != 1 ]]; then
  say "Installing Debian packages"
  as_root=()
  if [[ $EUID -ne 0 ]]; then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends \
    "${RASQ_BUILD_PACKAGES[@]}" "${RASQ_TRAIN_PACKAGES[@]}" "${RASQ_CHECK_PACKAGES[@]}" >/dev/null
fi
# One cache serves clones in different folders.
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1

build() { # build PRESET [TARGET...]
  local preset=$1
  shift
  cmake --preset "$preset" -D RASQ_TRAIN="$([[ $preset == cpu ]] && echo ON || echo OFF)" >/dev/null
  cmake --build --preset "$preset" ${1:+--target "$@"} -- --quiet
}
run() { # run PRESET [CTEST ARGUMENT...]
  local preset=$1
  shift
  ctest --test-dir "build/$preset" -j "$(nproc)" --output-on-failure --no-tests=error "$@"
}
threaded=(kernels_test engine_test server_test client_test e2e_test)
programs=("${threaded[@]}" tasks_test train_data_test)
# Minutes each under a sanitizer, and the same code as the tests beside them.
long='AMillionTokens|AnswersAsReference|StreamAgreesWithReference|ReplacementNoise|Demo'
# They bound a server's memory, of which sanitizers take more.
bounds='HostileClient|CyclesTest|ManySessions'

if wants 1; then
  say "Release build"
  build cpu
  say "All tests of the release build"
  run cpu
  if command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]]; then
    PATH=$PATH:/usr/local/cuda/bin
    say "CUDA backend"
    build cuda rasq_cuda
  fi
fi
if wants 2; then
  say "Style"
  tests/lint.sh
fi
if wants 3; then
  say "Build with address and undefined-behaviour sanitizers"
  build asan "${programs[@]}" {config,safetensors,session_log,session_record,tokenizer}_fuzz_replay
  say "Tests under address and undefined-behaviour sanitizers"
  run asan -E "$long|$bounds"
fi
if wants 4; then
  say "Build with the thread sanitizer"
  build tsan "${threaded[@]}"
  say "Tests under the thread sanitizer"
  # Thread leaks: gRPC ends some of its own threads only after main() has returned. Without TLS:
  # OpenSSL is built without the sanitizer, which then sees races between its threads.
  TSAN_OPTIONS="suppressions=$PWD/tests/support/tsan.supp report_thread_leaks=0" \
    run tsan -E "$long|$bounds|Tls" -R 'Engine|Session|Invariance|ThreadPool|Gemm|Append|Generate|Vanish|Client|Live'
fi
say "Done"
