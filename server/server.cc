#include "server/server.h"

#include <algorithm>
#include <chrono>
#include <climits>
#include <exception>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "engine/tenants.h"
#include "grpc/grpc.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "kernels/base/mutex.h"
#include "kernels/base/status.h"
#include "prometheus/exposer.h"
#include "server/address.h"
#include "server/admin_service.h"
#include "server/auth.h"
#include "server/call.h"
#include "server/live_calls.h"
#include "server/metrics.h"
#include "server/model_service.h"
#include "server/process_metrics.h"
#include "server/security.h"
#include "server/session_service.h"
#include "server/worker_pool.h"

namespace rasq {
namespace {

// A connection that does not say what it wants by then is closed.
constexpr int kHandshakeTimeoutMs = 20'000;
// Clients ping every 30 to 60 s: one that does is never told off, and one that is gone is noticed
// within a minute and a half.
constexpr int kMinClientPingMs = 20'000;
constexpr int kServerPingMs = 60'000;
constexpr int kPingTimeoutMs = 20'000;

// Linking the reflection library registers it with every server of the process; this takes it out
// where it is not wanted.
class WithoutReflection : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins,
                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
  }
};

int Milliseconds(absl::Duration duration) {
  return static_cast<int>(std::min<int64_t>(absl::ToInt64Milliseconds(duration), INT_MAX));
}

// The boundary to prometheus-cpp and CivetWeb, which throw.
absl::StatusOr<std::unique_ptr<prometheus::Exposer>> OpenExposer(const Address& address) {
  try {
    return std::make_unique<prometheus::Exposer>(address.ToString());
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrCat("metrics-listen=", address.ToString(),
                                               ": cannot be bound, is it taken? (", error.what(),
                                               ")"));
  }
}

int NumWorkers() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 4, 16);
}

// Counts what the engines do, and says what they could not.
class Observer : public Metrics {
 public:
  explicit Observer(const Log& log) : log_(log) {}
  void OnWriteFailed(const ScopedName& session, const absl::Status& status) override {
    log_.Fault({.name = "state_write",
                .tenant = session.tenant,
                .session_id = session.id,
                .status = status});
  }

 private:
  const Log& log_;
};

}  // namespace

// Members are in the order of their making: what comes later uses what comes before.
class Server::Impl : public Administered {
 public:
  explicit Impl(const ServerOptions& options)
      : options_(options),
        log_(options.log_format, options.log_stream, options.log_failures_per_second),
        calls_(options.max_calls) {}
  ~Impl() override {
    EndGrace();
    Stop();
  }

  absl::Status Start();
  void BeginDrain(std::optional<absl::Duration> grace) override;
  absl::Status Reload() override;
  void Stop();
  void EndGrace() { calls_.GiveUp(); }
  bool draining() const { return calls_.draining(); }

  const std::string& address() const { return address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  const EngineGroup& engine() const { return *engine_; }
  const Log& log() const { return log_; }

 private:
  void PutInForce(Secrets secrets);
  void SetLimits(grpc::ServerBuilder& builder) const;
  absl::Status StartGrpc();
  absl::Status StartMetrics();

  const ServerOptions options_;
  const Log log_;
  Observer metrics_{log_};
  const std::shared_ptr<Tenants> tenants_ = std::make_shared<Tenants>();
  std::unique_ptr<EngineGroup> engine_;
  std::unique_ptr<WorkerPool> workers_;
  Authenticator auth_;
  std::shared_ptr<TlsReloader> tls_;  // null: no TLS
  LiveCalls calls_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<SessionService> session_service_;
  std::unique_ptr<ModelService> model_service_;
  std::unique_ptr<AdminService> admin_service_;
  std::unique_ptr<grpc::Server> grpc_;
  std::shared_ptr<EngineCollector> collector_;
  const std::shared_ptr<ProcessCollector> process_ = std::make_shared<ProcessCollector>();
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_;
  std::string metrics_address_;

  Mutex reload_mu_;  // one at a time, so that what was read last is in force

  Mutex mu_;
  // When the grace ends; from the first BeginDrain on.
  std::optional<std::chrono::steady_clock::time_point> deadline_ ABSL_GUARDED_BY(mu_);
};

absl::Status Server::Impl::Start() {
  RASQ_RETURN_IF_ERROR(CheckAddresses(options_));
  RASQ_ASSIGN_OR_RETURN(Secrets secrets, ReadSecrets(options_));
  if (options_.tls.enabled()) {
    tls_ = std::make_shared<TlsReloader>(options_.tls, secrets.tls, log_, options_.tls_interval);
  }
  PutInForce(std::move(secrets));
  for (const std::string& warning : SecurityWarnings(options_)) log_.Message(warning);
  EngineOptions engine = options_.engine;
  engine.tenants = tenants_;
  RASQ_ASSIGN_OR_RETURN(engine_,
                        EngineGroup::Create(engine, &metrics_, [this](const std::string& problem) {
                          log_.Message(absl::StrCat("recovery: ", problem));
                        }));
  workers_ = std::make_unique<WorkerPool>(NumWorkers());
  backend_ = std::make_unique<Backend>(
      Backend{*engine_, metrics_, log_, *workers_, calls_, auth_, options_.content});
  RASQ_RETURN_IF_ERROR(StartMetrics());
  return StartGrpc();
}

absl::Status Server::Impl::StartMetrics() {
  if (options_.metrics_listen.empty()) return absl::OkStatus();
  RASQ_ASSIGN_OR_RETURN(Address address, ParseAddress(options_.metrics_listen));
  RASQ_ASSIGN_OR_RETURN(exposer_, OpenExposer(address));
  collector_ = std::make_shared<EngineCollector>(*engine_);
  exposer_->RegisterCollectable(metrics_.registry());
  exposer_->RegisterCollectable(collector_);
  exposer_->RegisterCollectable(process_);
  const std::vector<int> ports = exposer_->GetListeningPorts();
  if (!ports.empty()) address.port = static_cast<uint16_t>(ports.front());
  metrics_address_ = address.ToString();
  return absl::OkStatus();
}

void Server::Impl::SetLimits(grpc::ServerBuilder& builder) const {
  builder.SetMaxReceiveMessageSize(options_.max_message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, options_.max_metadata_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options_.max_connection_streams);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  if (options_.connection_idle > absl::ZeroDuration()) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                               Milliseconds(options_.connection_idle));
  }
  if (options_.connection_age > absl::ZeroDuration()) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                               Milliseconds(options_.connection_age));
  }
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinClientPingMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kServerPingMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  // Else a second server would share the port in silence.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

absl::Status Server::Impl::StartGrpc() {
  RASQ_ASSIGN_OR_RETURN(Address address, ParseAddress(options_.listen));
  session_service_ = std::make_unique<SessionService>(*backend_);
  model_service_ = std::make_unique<ModelService>(*backend_, options_.max_message_bytes);
  admin_service_ = std::make_unique<AdminService>(*backend_, *this);

  grpc::EnableDefaultHealthCheckService(true);
  if (options_.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  if (!options_.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  int port = 0;
  builder.AddListeningPort(address.ToString(),
                           tls_ == nullptr
                               ? grpc::InsecureServerCredentials()
                               : ReloadingCredentials(tls_, !options_.tls.client_ca.empty()),
                           &port);
  SetLimits(builder);
  builder.RegisterService(session_service_.get());
  builder.RegisterService(model_service_.get());
  builder.RegisterService(admin_service_.get());
  grpc_ = builder.BuildAndStart();
  if (grpc_ == nullptr) {
    return absl::UnavailableError(
        absl::StrCat("listen=", address.ToString(), ": cannot be bound, is it taken?"));
  }
  address.port = static_cast<uint16_t>(port);
  address_ = address.ToString();

  grpc::HealthCheckServiceInterface* health = grpc_->GetHealthCheckService();
  health->SetServingStatus("", true);
  health->SetServingStatus(v1::SessionService::service_full_name(), true);
  health->SetServingStatus(v1::ModelService::service_full_name(), true);
  health->SetServingStatus(v1::AdminService::service_full_name(), true);
  metrics_.SetServing(true);
  return absl::OkStatus();
}

void Server::Impl::BeginDrain(std::optional<absl::Duration> grace) {
  {
    MutexLock lock(mu_);
    if (deadline_.has_value()) return;
    deadline_ = std::chrono::steady_clock::now() +
                absl::ToChronoNanoseconds(grace.value_or(options_.drain_grace));
  }
  metrics_.SetServing(false);
  grpc_->GetHealthCheckService()->Shutdown();
  calls_.Drain();
}

void Server::Impl::PutInForce(Secrets secrets) {
  tenants_->Set(secrets.auth ? secrets.auth->tenants : std::map<std::string, TenantLimits>{});
  auth_.Set(std::move(secrets.auth));
  if (tls_ != nullptr) tls_->Set(std::move(secrets.tls));
}

absl::Status Server::Impl::Reload() {
  MutexLock lock(reload_mu_);
  absl::StatusOr<Secrets> secrets = ReadSecrets(options_);
  if (!secrets.ok()) {
    log_.Message(absl::StrCat("reload: all stays as it was: ", secrets.status().message()));
    return secrets.status();
  }
  PutInForce(*std::move(secrets));
  log_.Message("reload: done");
  return absl::OkStatus();
}

void Server::Impl::Stop() {
  if (grpc_ != nullptr) {
    BeginDrain(std::nullopt);
    std::chrono::steady_clock::time_point deadline;
    {
      MutexLock lock(mu_);
      deadline = *deadline_;
    }
    calls_.WaitIdle(deadline);
    // The grace is over: this cancels what is left, such as calls that watch the health.
    grpc_->Shutdown(std::chrono::system_clock::now());
    grpc_->Wait();
  }
  exposer_.reset();
  workers_.reset();  // the task of a call that was cancelled may still run, and uses the engine
  engine_.reset();
  grpc_.reset();
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  RASQ_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

const std::string& Server::address() const { return impl_->address(); }
const std::string& Server::metrics_address() const { return impl_->metrics_address(); }
const EngineGroup& Server::engine() const { return impl_->engine(); }
const Log& Server::log() const { return impl_->log(); }
absl::Status Server::Health() const { return impl_->engine().Health(); }
absl::Status Server::Reload() { return impl_->Reload(); }
bool Server::draining() const { return impl_->draining(); }
void Server::Stop() { impl_->Stop(); }
void Server::EndGrace() { impl_->EndGrace(); }

}  // namespace rasq
