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
                                                                 EngineObserver* observer,
                                                                 const ProblemLog& problem) {
  RASQ_ASSIGN_OR_RETURN(const std::vector<std::string> devices, Devices(options.ops));
  RASQ_ASSIGN_OR_RETURN(const std::shared_ptr<StateStore> store, StateStore::Open(options));
  // At once: most of the time goes into weights, on the host and on each device.
  std::vector<absl::StatusOr<std::unique_ptr<Engine>>> created(devices.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < devices.size(); ++i) {
    threads.emplace_back([&, i] {
      EngineOptions own = options;
      own.ops.device = devices[i];
      created[i] = Engine::Create(own, observer, store);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<std::unique_ptr<Engine>> engines;
  for (absl::StatusOr<std::unique_ptr<Engine>>& engine : created) {
    RASQ_RETURN_IF_ERROR(engine.status());
    engines.push_back(*std::move(engine));
  }
  std::unique_ptr<EngineGroup> group(new EngineGroup(options, store, std::move(engines)));
  RASQ_RETURN_IF_ERROR(group->Recover(problem));
  return group;
}

absl::Status EngineGroup::Recover(const ProblemLog& problem) {
  absl::Status first;
  std::vector<int64_t> twice;
  const auto adopt = [&](StoredSession session) {
    const ScopedName name = session.record.name;
    const int32_t place = engines_[Home(name)]->HasSession(name)
                              ? Home(name)
                              : MostFree(session.record.options.strategy);
    const int64_t key = session.key;
    const absl::Status status = engines_[place]->Adopt(std::move(session));
    // Of two creates of one id at once the crash came before the later one was taken back.
    absl::IsAlreadyExists(status) ? twice.push_back(key) : first.Update(status);
  };
  const auto tell = [&](const std::string& line) {
    if (problem) problem(line);
  };
  RASQ_RETURN_IF_ERROR(store_->Recover(adopt, tell));
  for (const int64_t key : twice) {
    if (store_->log() != nullptr) store_->log()->Delete(key, [](const absl::Status&) {});
  }
  if (first.ok()) return first;
  return absl::Status(first.code(),
                      absl::StrCat("state_dir=", options_.state_dir,
                                   ": holds a session that cannot be served: ", first.message()));
}

EngineGroup::EngineGroup(const EngineOptions& options, std::shared_ptr<StateStore> store,
                         std::vector<std::unique_ptr<Engine>> engines)
    : options_(options),
      store_(std::move(store)),
      engines_(std::move(engines)),
      model_(engines_.front()->model()) {
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
    sum.max_open_sessions += stats.max_open_sessions;
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
    sum.weight_bytes += stats.weight_bytes;
    sum.session_bytes += stats.session_bytes;
    sum.workspace_bytes += stats.workspace_bytes;
  }
  if (store_->log() != nullptr) sum.log_syncs = store_->log()->num_writes();
  return sum;
}

absl::Status EngineGroup::Health() const {
  for (const auto& engine : engines_) RASQ_RETURN_IF_ERROR(engine->Health());
  return absl::OkStatus();
}

int32_t EngineGroup::Home(const ScopedName& name) const {
  for (int32_t i = 1; i < size(); ++i) {
    if (engines_[i]->HasSession(name)) return i;
  }
  return 0;
}

int32_t EngineGroup::MostFree(Strategy strategy) const {
  const auto most =
      std::max_element(engines_.begin(), engines_.end(), [&](const auto& a, const auto& b) {
        return a->FreePlaces(strategy) < b->FreePlaces(strategy);
      });
  return static_cast<int32_t>(most - engines_.begin());
}

EngineGroup::Target EngineGroup::Place(const ScopedName& name, const std::string& request_id,
                                       Strategy strategy) {
  ScopedName own = name;
  const auto taken = [&] { return engines_[Home(own)]->HasSession(own); };
  while (own.id.empty() || (name.id.empty() && taken())) {
    own.id = absl::StrCat("session-", next_id_++);
  }
  int32_t place = taken() ? Home(own) : MostFree(strategy);
  for (int32_t i = 0; i < size() && !request_id.empty(); ++i) {
    if (engines_[i]->HasRequest({name.tenant, request_id})) place = i;
  }
  return {.id = own.id, .engine = place};
}

absl::StatusOr<SessionInfo> EngineGroup::CreateSession(const CreateSessionRequest& request) {
  if (size() == 1) return engines_.front()->CreateSession(request);
  MutexLock lock(create_mu_);
  CreateSessionRequest own = request;
  const Target target = Place({own.tenant, own.id}, own.request_id, own.options.strategy);
  own.id = target.id;
  absl::StatusOr<SessionInfo> session = engines_[target.engine]->CreateSession(own);
  if (absl::IsResourceExhausted(session.status())) {
    return absl::ResourceExhaustedError(
        absl::StrCat(session.status().message(), ", on each of ", size(), " devices"));
  }
  return session;
}

// The new session stays on the device of the other, where its state is.
void EngineGroup::ForkSession(const ForkSessionRequest& request,
                              const std::function<void(absl::StatusOr<SessionInfo>)>& done) {
  const int32_t home = Home(request.session);
  ForkSessionRequest own = request;
  if (size() > 1) {
    MutexLock lock(create_mu_);
    const ScopedName name(request.session.tenant, request.new_id);
    const Target target = Place(name, request.request_id, Strategy::kDefault);
    if (!name.id.empty() && target.engine != home && engines_[target.engine]->HasSession(name)) {
      done(absl::AlreadyExistsError(absl::StrCat("session_id=", name.id, ": is taken")));
      return;
    }
    own.new_id = target.id;
  }
  engines_[home]->ForkSession(own, done);
}

void EngineGroup::SnapshotSession(const SnapshotRequest& request,
                                  const std::function<void(absl::StatusOr<SnapshotInfo>)>& done) {
  engines_[Home(request.session)]->SnapshotSession(request, done);
}

void EngineGroup::RestoreSession(const RestoreSessionRequest& request,
                                 std::function<void(absl::StatusOr<SessionInfo>)> done) {
  RestoreSessionRequest own = request;
  Target target{.id = request.session_id, .engine = 0};
  if (size() > 1) {
    MutexLock lock(create_mu_);
    target = Place({request.snapshot.tenant, request.session_id}, request.request_id,
                   Strategy::kDefault);
  }
  own.session_id = target.id;
  engines_[target.engine]->RestoreSession(own, std::move(done));
}

absl::StatusOr<SnapshotPage> EngineGroup::ListSnapshots(const std::string& tenant,
                                                        int32_t page_size,
                                                        const std::string& page_token) const {
  return store_->ListSnapshots(tenant, page_size, page_token);
}

absl::Status EngineGroup::DeleteSnapshot(const ScopedName& name) {
  return store_->DeleteSnapshot(name);
}

absl::StatusOr<SessionInfo> EngineGroup::GetSession(const ScopedName& name) const {
  return engines_[Home(name)]->GetSession(name);
}

absl::StatusOr<SessionPage> EngineGroup::ListSessions(const std::string& tenant, int32_t page_size,
                                                      const std::string& page_token) const {
  SessionPage all;
  bool more = false;
  for (const auto& engine : engines_) {
    RASQ_ASSIGN_OR_RETURN(SessionPage page, engine->ListSessions(tenant, page_size, page_token));
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

void EngineGroup::DeleteSession(const ScopedName& name,
                                const std::function<void(absl::Status)>& done) {
  engines_[Home(name)]->DeleteSession(name, done);
}

absl::StatusOr<AppendReceipt> EngineGroup::Append(
    AppendRequest request, std::function<void(absl::StatusOr<AppendResult>)> on_absorbed) {
  Engine& home = *engines_[Home(request.session)];
  return home.Append(std::move(request), std::move(on_absorbed));
}

// A handle says which engine it is of: engine's own * size() + engine.
absl::StatusOr<int64_t> EngineGroup::Generate(GenerateRequest request,
                                              std::shared_ptr<GenerateSink> sink) {
  const int32_t home = Home(request.session);
  RASQ_ASSIGN_OR_RETURN(const int64_t own,
                        engines_[home]->Generate(std::move(request), std::move(sink)));
  return own * size() + home;
}

void EngineGroup::Cancel(int64_t generation) {
  engines_[generation % size()]->Cancel(generation / size());
}

}  // namespace rasq
