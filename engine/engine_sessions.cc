// The registry: how a session comes to be, new or from a record, and when it is refused.
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/check_range.h"
#include "engine/engine_impl.h"
#include "engine/tenants.h"
#include "kernels/base/status.h"

namespace rasq {

absl::Status Engine::Impl::CheckLabels(const std::map<std::string, std::string>& labels) const {
  return CheckRange<int64_t>("labels.size", labels.size(), 0, 16);
}

absl::StatusOr<SessionInfo> Engine::Impl::CreateSession(const CreateSessionRequest& request) {
  SessionRecord record{.name = {request.tenant, request.id},
                       .request_id = request.request_id,
                       .labels = request.labels,
                       .create_time = absl::Now()};
  record.last_use_time = record.create_time;
  RASQ_ASSIGN_OR_RETURN(record.options, CheckOptions(request.options));
  if (!request.id.empty()) RASQ_RETURN_IF_ERROR(CheckName("session_id", request.id));
  RASQ_RETURN_IF_ERROR(CheckLabels(request.labels));
  record.origin = PoolOf(record.options).origin;
  {
    MutexLock lock(mu_);
    if (!request.request_id.empty()) {
      if (auto again = Repeated({request.tenant, request.request_id}); again.ok()) return again;
    }
    // Before the log hears of it: most refusals are for these reasons.
    RASQ_RETURN_IF_ERROR(CheckRoom(record.name, record.options.strategy));
  }
  RASQ_ASSIGN_OR_RETURN(const SessionPtr session, MakeSession(record));
  if (store_ != nullptr && store_->log() != nullptr) {
    record.name = session->name;
    RASQ_RETURN_IF_ERROR(
        ForClients(store_->log()->Create(session->stored_key, EncodeRecord(record))));
    session->logs = true;
  }
  absl::Status status;
  {
    MutexLock lock(mu_);
    status = Register(session);
    if (status.ok()) return Info(*session);
  }
  if (session->logs) store_->log()->Delete(session->stored_key, [](const absl::Status&) {});
  return status;
}

absl::StatusOr<SessionInfo> Engine::Impl::Repeated(const ScopedName& request) const {
  const auto found = session_of_request_.find(request);
  if (found == session_of_request_.end()) return absl::NotFoundError("no such request");
  return Info(*sessions_.at(found->second));
}

absl::Status Engine::Impl::CheckRoom(const ScopedName& name, Strategy strategy) const {
  if (stopping_) return absl::UnavailableError("the engine is stopping");
  RASQ_RETURN_IF_ERROR(health_);
  if (sessions_.contains(name)) {
    return absl::AlreadyExistsError(absl::StrCat("session_id=", name.id, ": is taken"));
  }
  const StateRoom* room = pools_.at(strategy).room;
  if (num_open_.at(room) >= room->max_open) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "sessions: all ", room->max_open, " places",
        room->parks ? "" : absl::StrCat(" of strategy ", Name(strategy)), " are taken"));
  }
  return absl::OkStatus();
}

const Engine::Impl::StateRoom& Engine::Impl::RoomOf(const Session& session) const {
  return *pools_.at(session.layout->strategy).room;
}

absl::StatusOr<Engine::Impl::SessionPtr> Engine::Impl::MakeSession(SessionRecord record) {
  int64_t key = 0;
  {
    MutexLock lock(mu_);
    key = next_key_++;
    while (record.name.id.empty()) {
      ScopedName name(record.name.tenant, absl::StrCat("session-", next_id_++));
      if (!sessions_.contains(name)) record.name = std::move(name);
    }
  }
  auto session = std::make_shared<Session>(record.name, tokenizer_.get(), model_->config().hidden);
  session->key = key;
  session->request_id = record.request_id;
  session->options = record.options;
  session->labels = std::move(record.labels);
  session->create_time = record.create_time;
  session->last_use_time = record.last_use_time;
  session->layout = &PoolOf(record.options).layout;
  if (store_ != nullptr) session->stored_key = store_->NewKey();
  session->cursor = record.cursor;
  session->loaded_tokens = session->accepted_tokens = session->absorbed_tokens =
      record.cursor.position;
  session->loaded = record.mark;
  session->known_offset = record.mark.next_offset;
  {
    MutexLock input_lock(session->input_mu);
    std::vector<int32_t> none;
    session->text.Append(record.mark.held_text, none);
    session->begun = record.mark.begun;
    session->next_offset = record.mark.next_offset;
    session->pinned_tokens = record.mark.pinned_tokens;
  }
  if (session->layout->keeps_history()) {
    const Input tokens{.ids = std::move(record.history)};
    RASQ_RETURN_IF_ERROR(CheckTokens(tokens));
    if (tokens.size() > record.cursor.position) {
      return absl::DataLossError(absl::StrCat("session_id=", record.name.id,
                                              ": its history has more tokens than it was given"));
    }
    session->history = std::make_unique<TokenHistory>(
        HistoryOptions(record.options), &ends_sentence_, record.cursor.position - tokens.size());
    session->history->Append(tokens.ids);
    session->history_bytes = session->history->bytes();
  }
  if (session->layout->strategy == Strategy::kAttentionRag) {
    RASQ_ASSIGN_OR_RETURN(session->prompts,
                          SearchPrompts::Create(record.options.attention_rag, *tokenizer_));
  }
  if (record.queue.empty()) return session;
  const int64_t num_tokens = record.context_tokens() - record.cursor.position;
  for (const std::shared_ptr<const Input>& input : record.queue) {
    const int64_t values = input->embeddings.size();
    if (values != 0 && values != input->size() * model_->config().hidden) {
      return absl::DataLossError(absl::StrCat("session_id=", record.name.id, ": ", values,
                                              " values of embeddings for ", input->size(),
                                              " rows"));
    }
    RASQ_RETURN_IF_ERROR(CheckTokens(*input));
    session->queue.Push(input);
  }
  if (session->history == nullptr && session->OnlyTailWaits()) {
    // They only wait for their segment to be full: that is absorbed.
    session->loaded_tokens += num_tokens;
    session->accepted_tokens += num_tokens;
    session->absorbed_tokens += num_tokens;
    return session;
  }
  session->queue = InputQueue(model_->config().hidden);
  session->items.push_back({.input = std::move(record.queue),
                            .num_tokens = num_tokens,
                            .accept_time = absl::Now(),
                            .on_absorbed = [](const absl::StatusOr<AppendResult>&) {},
                            .mark = std::move(record.mark),
                            .logged = true});
  return session;
}

absl::Status Engine::Impl::Register(const SessionPtr& session, Arrival arrival) {
  const Strategy strategy = session->layout->strategy;
  RASQ_RETURN_IF_ERROR(CheckRoom(session->name, strategy));
  if (options_.tenants && arrival == Arrival::kAdopted) {
    options_.tenants->AdoptSession(session->name.tenant);
  } else if (options_.tenants) {
    RASQ_RETURN_IF_ERROR(options_.tenants->AddSession(session->name.tenant));
  }
  ++num_open_.at(&RoomOf(*session));
  sessions_[session->name] = session;
  if (!session->request_id.empty()) {
    session_of_request_[{session->name.tenant, session->request_id}] = session->name;
  }
  // What a record brought that is not in its slab.
  std::deque<WorkItem> items = std::exchange(session->items, {});
  for (WorkItem& item : items) {
    session->accepted_tokens += item.num_tokens;
    backlog_tokens_ += item.num_tokens;
    ++session->items_in_flight;
    inbox_.emplace_back(session, std::move(item));
  }
  wake_.Signal();
  return absl::OkStatus();
}

absl::Status Engine::Impl::AddTask(const ScopedName& name,
                                   std::function<absl::StatusOr<bool>(SessionPtr)> task,
                                   std::function<void(const absl::Status&)> on_dropped) {
  MutexLock lock(mu_);
  RASQ_ASSIGN_OR_RETURN(SessionPtr session, FindUsable(name));
  ++session->items_in_flight;
  WorkItem item{.task = [session, task = std::move(task)] { return task(session); },
                .on_dropped = std::move(on_dropped)};
  inbox_.emplace_back(std::move(session), std::move(item));
  wake_.Signal();
  return absl::OkStatus();
}

absl::Status Engine::Impl::CheckTokens(const Input& input) const {
  if (!input.embeddings.empty()) return absl::OkStatus();
  for (const int32_t id : input.ids) {
    RASQ_RETURN_IF_ERROR(CheckRange("token_id", id, 0, model_->config().vocab - 1));
  }
  return absl::OkStatus();
}

absl::Status Engine::Impl::LogHealth() const {
  return store_ == nullptr || store_->log() == nullptr ? absl::OkStatus()
                                                       : ForClients(store_->log()->Health());
}

// What the log says names its directory.
absl::Status Engine::Impl::ForClients(const absl::Status& log) {
  if (log.ok()) return log;
  return absl::Status(log.code(), absl::IsResourceExhausted(log)
                                      ? "durable: the disk is full"
                                      : "durable: the disk refuses writes");
}

absl::StatusOr<const Engine::Impl::StatePool*> Engine::Impl::PoolOf(const SessionRecord& record,
                                                                    absl::string_view where) const {
  const StatePool* pool = FindPool(record.options);
  if (pool == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(where, ": ", NotServed(record.options)));
  }
  if (absl::Status status = CheckOrigin(record.origin, pool->origin); !status.ok()) {
    return absl::FailedPreconditionError(absl::StrCat(where, ": ", status.message()));
  }
  return pool;
}

}  // namespace rasq
