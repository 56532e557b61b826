#!/usr/bin/env bash
# clang-format over all that git tracks, Clang's thread-safety analysis over what holds locks, and
# clang-tidy over the engine. Needs build/cpu to be built: it has the compile commands and the
# generated protos.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t sources < <(git ls-files '*.h' '*.cc' '*.cu')
clang-format --dry-run --Werror "${sources[@]}"
echo "clang-format: ${#sources[@]} files"

# The thread-safety analysis is Clang's alone, and cheap: syntax only, over the code with locks.
mapfile -t locked < <(grep -lE 'Mutex' $(git ls-files 'kernels/*.cc' 'engine/*.cc' 'server/*.cc'))
for source in "${locked[@]}"; do
  clang++ -std=c++20 -fsyntax-only -Wthread-safety -Werror=thread-safety -I. \
    -Ibuild/cpu/proto/generated $(pkg-config --cflags libpcre2-8) "$source"
done
echo "clang -Wthread-safety: ${#locked[@]} files"

mapfile -t tidied < <(git ls-files 'kernels/base/*.cc' 'engine/*.cc' 'engine/tokenizer/*.cc')
printf '%s\n' "${tidied[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p build/cpu 2>/dev/null
echo "clang-tidy: ${#tidied[@]} files"
