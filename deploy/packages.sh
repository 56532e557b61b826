# Debian 12 packages, to be sourced: what a build needs, what the trainer needs, and what the checks of
# tests/run.sh want on top.
RASQ_BUILD_PACKAGES=(
  g++ cmake ninja-build ccache git pkg-config
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libabsl-dev
  prometheus-cpp-dev libssl-dev libdnnl-dev libhwy-dev libpcre2-dev nlohmann-json3-dev
  librocksdb-dev libxxhash-dev liblzma-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
# Without a BLAS of its own Debian's libtorch multiplies by the reference implementation.
RASQ_TRAIN_PACKAGES=(libtorch-dev libopenblas0-pthread gnuplot-nox)
RASQ_CHECK_PACKAGES=(
  clang clang-format clang-tidy libclang-rt-14-dev xz-utils
  prometheus haproxy systemd curl jq openssl
  python3-grpcio python3-protobuf python3-setuptools
)
