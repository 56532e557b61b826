#include <cstdio>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands/command.h"
#include "client/commands/json.h"

namespace rasq::client {
namespace {

absl::Status Show(const Context& context) {
  const absl::StatusOr<v1::GetModelResponse> model = Client(context.client).GetModel();
  if (!model.ok()) return model.status();
  const Json json = ToJson(*model);
  if (context.json) {
    PrintJson(json);
    return absl::OkStatus();
  }
  PrintFields(json);
  return absl::OkStatus();
}

absl::Status Tokenize(const Context& context, const std::string& text) {
  const absl::StatusOr<std::vector<int32_t>> ids = Client(context.client).Tokenize(text);
  if (!ids.ok()) return ids.status();
  if (context.json) {
    PrintJson({{"token_ids", *ids}});
  } else {
    absl::PrintF("%s\n", absl::StrJoin(*ids, " "));
  }
  return absl::OkStatus();
}

absl::Status Detokenize(const Context& context, const std::vector<int32_t>& ids) {
  const absl::StatusOr<std::string> text = Client(context.client).Detokenize(ids);
  if (!text.ok()) return text.status();
  if (context.json) {
    PrintJson({{"text", *text}});
  } else {
    absl::PrintF("%s\n", *text);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunModel(Context& context, const Arguments& arguments) {
  FlagSet flags("model [tokenize TEXT | detokenize ID...]",
                "Shows what the server serves, or turns text into token ids and back.");
  AddGlobalFlags(&context, &flags);
  const absl::StatusOr<Arguments> operands = flags.Parse(arguments);
  if (!operands.ok()) return operands.status();
  if (flags.help_asked()) {
    std::fputs(flags.Help().c_str(), stdout);
    return absl::OkStatus();
  }
  if (operands->empty()) return Show(context);
  const std::string& verb = operands->front();
  if (verb == "tokenize" && operands->size() == 2) return Tokenize(context, (*operands)[1]);
  if (verb == "detokenize" && operands->size() > 1) {
    std::vector<int32_t> ids;
    for (size_t i = 1; i < operands->size(); ++i) {
      int32_t id;
      if (!absl::SimpleAtoi((*operands)[i], &id)) {
        return UsageError(absl::StrCat("detokenize: ", (*operands)[i], " is not a token id"));
      }
      ids.push_back(id);
    }
    return Detokenize(context, ids);
  }
  return UsageError("model wants nothing, tokenize TEXT or detokenize ID...");
}

}  // namespace rasq::client
