// Dialogues from files of JSON lines.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/tasks/episode.h"
#include "train/data/text_file.h"

namespace rasq::train {

// Of {"id", "turns": [{"speaker", "text"}], "final_slots": {service: {slot: [values]}}}: the turns
// are the facts; each slot whose value was said is a question, its evidence the last turn that says
// so. Dialogues without such slots are left out. Errors name file, line and field.
absl::StatusOr<std::vector<tasks::Episode>> ReadSlotDialogues(const std::string& path,
                                                              tasks::Split split);

// The turns of any such file as plain text, a line each: "speaker: text".
absl::StatusOr<std::vector<Document>> ReadDialogueText(const std::string& path, tasks::Split split);

}  // namespace rasq::train
