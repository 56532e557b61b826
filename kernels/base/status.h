// The two status macros and the check. A caller's or the world's fault is an absl::Status; a bug of
// our own is a RASQ_CHECK, which aborts: no request may reach one.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define RASQ_RETURN_IF_ERROR(expression)                              \
  do {                                                                \
    if (absl::Status rasq_status = (expression); !rasq_status.ok()) { \
      return rasq_status;                                             \
    }                                                                 \
  } while (false)

#define RASQ_CONCAT_INNER(a, b) a##b
#define RASQ_CONCAT(a, b) RASQ_CONCAT_INNER(a, b)

// RASQ_ASSIGN_OR_RETURN(auto x, F()): x is F's value, or the function returns F's status.
#define RASQ_ASSIGN_OR_RETURN(declaration, expression) \
  RASQ_ASSIGN_OR_RETURN_INNER(RASQ_CONCAT(rasq_statusor_, __LINE__), declaration, expression)
#define RASQ_ASSIGN_OR_RETURN_INNER(statusor, declaration, expression) \
  auto statusor = (expression);                                        \
  if (!statusor.ok()) return statusor.status();                        \
  declaration = *std::move(statusor)

#define RASQ_CHECK(condition)                                                            \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
