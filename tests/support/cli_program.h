// `rasq` as a user runs it, against one server.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/process.h"

namespace rasq {

class CliProgram {
 public:
  struct Result {
    int code;
    std::string out;
    std::string err;
  };

  CliProgram(std::string binary, std::string address)
      : binary_(std::move(binary)), address_(std::move(address)) {}

  std::vector<std::string> CommandLine(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {binary_, "--address", address_});
    return arguments;
  }
  // To its end. `input` is all of its standard input.
  Result Run(const std::vector<std::string>& arguments, const std::string& input = "") const {
    Process process(CommandLine(arguments));
    process.Write(input);
    process.CloseInput();
    const int code = process.Wait();
    return {code, process.out(), process.err()};
  }
  // With -o json: fails the test unless it ends well with one object.
  nlohmann::json RunJson(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), {"-o", "json"});
    const Result result = Run(arguments, input);
    EXPECT_EQ(result.code, 0) << result.err;
    nlohmann::json json =
        nlohmann::json::parse(result.out, /*cb=*/nullptr, /*allow_exceptions=*/false);
    EXPECT_TRUE(json.is_object()) << result.out;
    return json;
  }

 private:
  std::string binary_, address_;
};

}  // namespace rasq
