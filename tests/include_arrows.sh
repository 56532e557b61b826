#!/usr/bin/env bash
# Who may include whom: client -> proto <- server -> engine -> kernels -> kernels/base; train -> engine
# and client/tasks, which includes nothing but itself; and nothing includes tests. Prints the includes that break an arrow, and fails if there are any.
set -euo pipefail
cd "$1"

broken=0
forbid() { # forbid FOLDER PATTERN: files below FOLDER include nothing that matches PATTERN
  if grep -rnE --include='*.h' --include='*.cc' --include='*.cu' --include='*.cuh' \
       "^#include [\"<]($2)" "$1"; then
    echo "$1/ may not include the above"
    broken=1
  fi
}
forbid kernels/base '(kernels/[a-z_]+\.h|engine/|server/|client/|train/|tests/|rasq/v1/)'
forbid kernels '(engine/|server/|client/|train/|tests/|rasq/v1/|grpc|google/protobuf)'
forbid engine '(server/|client/|train/|tests/|rasq/v1/|grpc|google/protobuf|prometheus|cuda|cublas)'
forbid server '(client/|train/|tests/)'
forbid client '(kernels/|engine/|server/|train/|tests/)'
forbid client/tasks '(client/([a-z_]+\.h|commands/)|rasq/v1/|grpc|google/protobuf|nlohmann)'
forbid train '(kernels/[a-z_]+\.h|server/|client/([a-z_]+\.h|commands/)|tests/|rasq/v1/|grpc|google/protobuf)'
exit $broken
