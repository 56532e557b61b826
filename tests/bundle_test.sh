#!/usr/bin/env bash
# Packs a bundle, unpacks it somewhere else under another name, and runs what is in it: every library
# but the C library's and CUDA's must come from the bundle, for the programs and for the running
# server, which loads some of them late.
#   bundle_test.sh BUILD_DIR
set -euo pipefail
# shellcheck source=tests/start_server.sh
source "$(dirname "${BASH_SOURCE[0]}")/start_server.sh"
tests=$(realpath "$(dirname "${BASH_SOURCE[0]}")")
build=$1
unset LD_LIBRARY_PATH LD_PRELOAD

folder=$(mktemp -d)
trap 'kill_server; rm -rf "$folder"' EXIT
"$tests/../deploy/bundle.sh" --without-model --with-tests --tar "$build" "$folder/rasq"
(($(stat --format %s "$folder/rasq.tar.xz") < 30 * 1024 * 1024))
rm -r "$folder/rasq"
tar --extract --file "$folder/rasq.tar.xz" --directory "$folder"
mv "$folder/rasq" "$folder/moved"
bundle=$folder/moved
[[ ! -e "$bundle/share/rasq/models/default" ]]

# expect_inside WHAT: reads paths of libraries, a line each.
expect_inside() {
  local own='/(ld-linux-x86-64|lib(c|m|mvec|dl|rt|pthread|resolv|nss_[a-z]+|cublasLt|cuda|nvidia-.*))\.so'
  if grep -vF "$bundle/" | grep -vE "$own"; then
    echo "$1: the above are from outside the bundle" >&2
    return 1
  fi
}
for program in "$bundle"/bin/*; do
  ldd "$program" | awk '$2 == "=>" { print $3 }' | expect_inside "${program##*/}"
done

mkdir "$folder/empty"
cd "$folder/empty"
start_server "$bundle/bin" --model "$tests/../models/default"
"$bundle/bin/rasq" --address "$address" model >/dev/null
awk '$6 ~ /\.so/ { print $6 }' "/proc/$server/maps" | sort -u >mapped
grep -q "$bundle/" mapped
expect_inside "the running server" <mapped
stop_server

# A test program that reads nothing, and one that reads tests/testdata.
"$bundle/bin/kernels_test" --gtest_brief --gtest_filter='RmsNormTest.*'
RASQ_SOURCE_DIR=$bundle/share/rasq "$bundle/bin/engine_test" --gtest_brief \
  --gtest_filter='*TinyTest.FirstSegmentsEqualFullAttention*'
