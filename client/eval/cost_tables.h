// Tables of what sessions cost: memory, time, and what was refused.
#pragma once

#include <vector>

#include "client/eval/series.h"
#include "client/eval/table.h"

namespace rasq::client {

Table CostTable(const std::vector<Series>& list);
Table LatencyTable(const std::vector<Series>& list);
Table RefusedTable(const std::vector<Series>& list);

}  // namespace rasq::client
