// What /metrics shows of the process, under the names that Prometheus's own client libraries use,
// so that an operator's usual rules hold for this server too.
#pragma once

#include <vector>

#include "prometheus/collectable.h"
#include "prometheus/metric_family.h"

namespace rasq {

// Reads /proc when the page is read; what cannot be read is left out. Any thread.
class ProcessCollector : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace rasq
