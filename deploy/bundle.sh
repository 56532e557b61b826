#!/usr/bin/env bash
# Makes a folder that runs on a machine where nothing can be installed: a build's programs, and every
# shared library they need but the C library's own, which must be as new there as here. CUDA's
# libraries are left to that machine's driver and toolkit.
#
#   deploy/bundle.sh [OPTION...] BUILD_DIR OUTPUT_DIR
#     --without-model  leave out the shipped model
#     --with-tests     add the tests and benchmarks that a GPU is for, and what they read
#     --with-cuda      add libcublasLt (500 MB), for a machine with a driver but no toolkit
#     --tar            make OUTPUT_DIR.tar.xz as well
set -euo pipefail
shopt -s nullglob
source_dir=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")

fail() {
  echo "bundle.sh: $*" >&2
  exit 1
}

model=1 tests=0 cuda=0 tar=0
places=()
for argument in "$@"; do
  case $argument in
    --without-model) model=0 ;;
    --with-tests) tests=1 ;;
    --with-cuda) cuda=1 ;;
    --tar) tar=1 ;;
    -*) fail "no such option: $argument" ;;
    *) places+=("$argument") ;;
  esac
done
((${#places[@]} == 2)) || fail "give BUILD_DIR and OUTPUT_DIR"
build=$(realpath "${places[0]}")
[[ -f "$build/CMakeCache.txt" ]] || fail "not a build folder: $build"
mkdir -p "${places[1]}"
bundle=$(realpath "${places[1]}")
[[ -z "$(ls -A "$bundle")" ]] || fail "not empty: $bundle"

cached() { sed -n "s/^$1:[A-Z]*=//p" "$build/CMakeCache.txt"; }
lib=$bundle/$(cached CMAKE_INSTALL_LIBDIR)
share=$bundle/share/rasq

cmake --install "$build" --prefix "$bundle" --strip >/dev/null
((model)) || rm -r "$share/models"
if ((tests)); then
  for program in "$build"/bin/{kernels_test,engine_test,*_bench}; do
    install --strip "$program" "$bundle/bin"
  done
  # Laid out as the source tree is, for which it stands in.
  mkdir -p "$share"/{models,tests/bench}
  cp -r "$source_dir/tests/testdata" "$share/tests"
  cp "$source_dir"/tests/{gpu,start_server}.sh "$share/tests"
  cp "$source_dir/tests/bench/full_kv_baseline.py" "$share/tests/bench"
  for shape in "$source_dir"/models/*-shape; do cp -r "$shape" "$share/models"; done
fi
# The trainer belongs to no server: libtorch, which it needs, is thirteen times the rest.
rm -f "$bundle"/bin/{rasq-train,train_bench}

# What comes with every Linux, or with CUDA, stays out. The C library must: its parts fit one another
# only, and the loader, one of them, is named in the programs by its full path.
outside='^(linux-vdso|ld-linux.*|lib(c|m|mvec|dl|rt|pthread|resolv|util|anl|nsl|nss_[a-z]+)'
outside+='|libcublasLt|libcudart|libcuda|libnvidia-.*)\.so'
# A line "NAME PATH" for each library that these files need, directly or through others.
needed() { ldd "$@" | awk '$2 == "=>" { print $1, ($3 == "not" ? "-" : $3) }' | grep -vE "$outside"; }

mkdir -p "$lib"
own=("$bundle"/bin/* "$lib"/*)
while read -r name path; do
  [[ "$path" != - ]] || fail "$name, which a program needs, is not on this machine"
  cp -L "$path" "$lib/$name"
done < <(needed "${own[@]}" | sort -u)
if ((cuda)); then
  from=$(cached CUDA_cublasLt_LIBRARY)
  [[ -n "$from" ]] || fail "--with-cuda: a build without CUDA: $build"
  name=$(readelf -d "$lib/librasq_cuda.so" | grep -o 'libcublasLt\.so[.0-9]*')
  cp -L "$(dirname "$from")/$name" "$lib"
fi
# The copied libraries have no run path: that of the program which loads them finds what they need.
for file in "${own[@]}"; do
  if needed "$file" | grep -vF " $bundle/"; then
    fail "${file##*/} finds the above outside the bundle: was it built with this run path?"
  fi
done

echo "$bundle: $(du -sm "$bundle" | cut -f 1) MiB (programs $(du -sm "$bundle/bin" | cut -f 1)," \
  "libraries $(du -sm "$lib" | cut -f 1), model and data $(du -sm "$share" | cut -f 1))"
if ((tar)); then
  archive=$bundle.tar.xz
  XZ_OPT=-T0 tar --create --xz --sort=name --owner=0 --group=0 --numeric-owner \
    --directory "$(dirname "$bundle")" --file "$archive" "$(basename "$bundle")"
  echo "$archive: $(du -sm "$archive" | cut -f 1) MiB"
fi
