#include "engine/engine_group.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kernels/base/status.h"
#include "kernels/ops.h"

namespace rasq {
namespace {

absl::StatusOr<std::vector<std::string>> AllGpus(OpsOptions options) {
  std::vector<std::string> devices;
  while (true) {
    options.device = absl::StrCat("cuda:", devices.size());
    const absl::Status status = OpenOps(options).status();
    if (absl::IsUnavailable(status) && !devices.empty()) return devices;
    RASQ_RETURN_IF_ERROR(status);
    devices.push_back(options.device);
  }
}

absl::StatusOr<std::vector<std::string>> Devices(const OpsOptions& options) {
  if (options.device == "cuda:all") return AllGpus(options);
  const std::vector<std::string> devices = absl::StrSplit(options.device, ',');
  std::set<std::string> seen;
  for (const std::string& device : devices) {
    // Two engines on one processor are slow; on one GPU they would fight for its memory.
    if (!seen.insert(device).second && device != "cpu") {
      return absl::InvalidArgumentError(
          absl::StrCat("device=", options.device, ": ", device, " stands twice"));
    }
  }
  return devices;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EngineGroup>> EngineGroup::Create(const EngineOptions& options,
                                                                 EngineObserver* observer) {
  RASQ_ASSIGN_OR_RETURN(const std::vector<std::string> devices, Devices(options.ops));
  // At once: most of the time goes into weights, on the host and on each device.
  std::vector<absl::StatusOr<std::unique_ptr<Engine>>> created(devices.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < devices.size(); ++i) {
    threads.emplace_back([&, i] {
      EngineOptions own = options;
      own.ops.device = devices[i];
      created[i] = Engine::Create(own, observer);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<std::unique_ptr<Engine>> engines;
  for (absl::StatusOr<std::unique_ptr<Engine>>& engine : created) {
    RASQ_RETURN_IF_ERROR(engine.status());
    engines.push_back(*std::move(engine));
  }
  return std::unique_ptr<EngineGroup>(new EngineGroup(options, std::move(engines)));
}

EngineGroup::EngineGroup(const EngineOptions& options, std::vector<std::unique_ptr<Engine>> engines)
    : options_(options), engines_(std::move(engines)), model_(engines_.front()->model()) {
  for (int32_t i = 1; i < size(); ++i) {
    model_.session_slots += engine(i).model().session_slots;
    absl::StrAppend(&model_.device, ",", engine(i).model().device);
  }
}

EngineStats EngineGroup::Stats() const {
  EngineStats sum;
  for (const auto& engine : engines_) {
    const EngineStats stats = engine->Stats();
    sum.sessions_open += stats.sessions_open;
    sum.sessions_active += stats.sessions_active;
    sum.slots_total += stats.slots_total;
    sum.slots_used += stats.slots_used;
    sum.work_slots += stats.work_slots;
    sum.sessions_parked_host += stats.sessions_parked_host;
    sum.sessions_parked_disk += stats.sessions_parked_disk;
    sum.backlog_tokens += stats.backlog_tokens;
    sum.backlog_limit_tokens += stats.backlog_limit_tokens;
    sum.generations_running += stats.generations_running;
    sum.generations_queued += stats.generations_queued;
    sum.appended_tokens += stats.appended_tokens;
    sum.generated_tokens += stats.generated_tokens;
    sum.buffer_replacements += stats.buffer_replacements;
    sum.parks += stats.parks;
    sum.unparks += stats.unparks;
    sum.snapshots_written += stats.snapshots_written;
    sum.snapshots_failed += stats.snapshots_failed;
    sum.log_entries += stats.log_entries;
    sum.log_syncs += stats.log_syncs;
    sum.weight_bytes += stats.weight_bytes;
    sum.session_bytes += stats.session_bytes;
    sum.workspace_bytes += stats.workspace_bytes;
  }
  return sum;
}

absl::Status EngineGroup::Health() const {
  for (const auto& engine : engines_) RASQ_RETURN_IF_ERROR(engine->Health());
  return absl::OkStatus();
}

int32_t EngineGroup::Home(const std::string& id) const {
  for (int32_t i = 1; i < size(); ++i) {
    if (engines_[i]->HasSession(id)) return i;
  }
  return 0;
}

int32_t EngineGroup::MostFree(Strategy strategy) const {
  const auto most =
      std::max_element(engines_.begin(), engines_.end(), [&](const auto& a, const auto& b) {
        return a->FreeSlots(strategy) < b->FreeSlots(strategy);
      });
  return static_cast<int32_t>(most - engines_.begin());
}

absl::StatusOr<SessionInfo> EngineGroup::CreateSession(const CreateSessionRequest& request) {
  if (size() == 1) return engines_.front()->CreateSession(request);
  const auto taken = [this](const std::string& id) { return engines_[Home(id)]->HasSession(id); };
  MutexLock lock(create_mu_);
  CreateSessionRequest own = request;
  while (own.id.empty() || (request.id.empty() && taken(own.id))) {
    own.id = absl::StrCat("session-", next_id_++);
  }
  int32_t place = taken(own.id) ? Home(own.id) : MostFree(own.options.strategy);
  for (int32_t i = 0; i < size() && !own.request_id.empty(); ++i) {
    if (engines_[i]->HasRequest(own.request_id)) place = i;
  }
  absl::StatusOr<SessionInfo> session = engines_[place]->CreateSession(own);
  if (absl::IsResourceExhausted(session.status())) {
    return absl::ResourceExhaustedError(
        absl::StrCat(session.status().message(), ", on each of ", size(), " devices"));
  }
  return session;
}

absl::StatusOr<SessionInfo> EngineGroup::GetSession(const std::string& id) const {
  return engines_[Home(id)]->GetSession(id);
}

absl::StatusOr<SessionPage> EngineGroup::ListSessions(int32_t page_size,
                                                      const std::string& page_token) const {
  SessionPage all;
  bool more = false;
  for (const auto& engine : engines_) {
    RASQ_ASSIGN_OR_RETURN(SessionPage page, engine->ListSessions(page_size, page_token));
    std::move(page.sessions.begin(), page.sessions.end(), std::back_inserter(all.sessions));
    more |= !page.next_page_token.empty();
  }
  std::sort(all.sessions.begin(), all.sessions.end(),
            [](const SessionInfo& a, const SessionInfo& b) { return a.id < b.id; });
  const size_t most = page_size == 0 ? kDefaultPageSize : page_size;
  if (all.sessions.size() > most) {
    all.sessions.resize(most);
    more = true;
  }
  if (more) all.next_page_token = all.sessions.back().id;
  return all;
}

void EngineGroup::DeleteSession(const std::string& id,
                                const std::function<void(absl::Status)>& done) {
  engines_[Home(id)]->DeleteSession(id, done);
}

absl::StatusOr<AppendReceipt> EngineGroup::Append(
    AppendRequest request, std::function<void(absl::StatusOr<AppendResult>)> on_absorbed) {
  Engine& home = *engines_[Home(request.session_id)];
  return home.Append(std::move(request), std::move(on_absorbed));
}

// A handle says which engine it is of: engine's own * size() + engine.
absl::StatusOr<int64_t> EngineGroup::Generate(GenerateRequest request,
                                              std::shared_ptr<GenerateSink> sink) {
  const int32_t home = Home(request.session_id);
  RASQ_ASSIGN_OR_RETURN(const int64_t own,
                        engines_[home]->Generate(std::move(request), std::move(sink)));
  return own * size() + home;
}

void EngineGroup::Cancel(int64_t generation) {
  engines_[generation % size()]->Cancel(generation / size());
}

}  // namespace rasq
