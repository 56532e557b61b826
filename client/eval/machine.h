// What a measurement ran on, by name.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace rasq::client {

// Processor and number of its threads, or the GPUs, of the machine that this program runs on: of
// `device` "cpu", "cuda:0", "cuda:0,cuda:1". Empty if the system does not tell, or if `address` is
// not one of this machine.
std::string DescribeMachine(absl::string_view address, absl::string_view device);

// The "model name" of the first processor in the text of /proc/cpuinfo, and how many there are.
std::string DescribeProcessor(absl::string_view cpuinfo);

}  // namespace rasq::client
