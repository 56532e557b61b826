#include "server/server.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine_group.h"
#include "grpc/grpc.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "kernels/base/status.h"
#include "prometheus/exposer.h"
#include "server/address.h"
#include "server/call.h"
#include "server/live_calls.h"
#include "server/metrics.h"
#include "server/model_service.h"
#include "server/process_metrics.h"
#include "server/session_service.h"
#include "server/worker_pool.h"

namespace rasq {
namespace {

constexpr int kMaxMetadataBytes = 16 << 10;
constexpr int kMaxStreamsPerConnection = 1024;
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

absl::StatusOr<Address> CheckedAddress(absl::string_view flag, const std::string& text,
                                       bool insecure) {
  absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": ", address.status().message()));
  }
  if (!address->is_loopback() && !insecure) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, "=", text,
                     ": not a loopback address, and this version has no TLS and no authentication; "
                     "--insecure allows it"));
  }
  return address;
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

}  // namespace

absl::Status Validate(const ServerOptions& options) {
  RASQ_RETURN_IF_ERROR(CheckedAddress("listen", options.listen, options.insecure).status());
  if (options.metrics_listen.empty()) return absl::OkStatus();
  return CheckedAddress("metrics-listen", options.metrics_listen, options.insecure).status();
}

// Members are in the order of their making: what comes later uses what comes before.
class Server::Impl {
 public:
  explicit Impl(const ServerOptions& options)
      : options_(options), log_(options.log_format, options.log_stream) {}
  ~Impl() {
    options_.drain_grace = absl::ZeroDuration();
    Stop();
  }

  absl::Status Start();
  void Stop();

  const std::string& address() const { return address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  const EngineGroup& engine() const { return *engine_; }
  const Log& log() const { return log_; }

 private:
  absl::Status StartGrpc();
  absl::Status StartMetrics();

  ServerOptions options_;
  const Log log_;
  Metrics metrics_;
  std::unique_ptr<EngineGroup> engine_;
  std::unique_ptr<WorkerPool> workers_;
  LiveCalls calls_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<SessionService> session_service_;
  std::unique_ptr<ModelService> model_service_;
  std::unique_ptr<grpc::Server> grpc_;
  std::shared_ptr<EngineCollector> collector_;
  const std::shared_ptr<ProcessCollector> process_ = std::make_shared<ProcessCollector>();
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_;
  std::string metrics_address_;
};

absl::Status Server::Impl::Start() {
  RASQ_RETURN_IF_ERROR(Validate(options_));
  RASQ_ASSIGN_OR_RETURN(engine_, EngineGroup::Create(options_.engine, &metrics_));
  workers_ = std::make_unique<WorkerPool>(NumWorkers());
  backend_ = std::make_unique<Backend>(Backend{*engine_, metrics_, log_, *workers_, calls_});
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

absl::Status Server::Impl::StartGrpc() {
  RASQ_ASSIGN_OR_RETURN(Address address, ParseAddress(options_.listen));
  session_service_ = std::make_unique<SessionService>(*backend_);
  model_service_ = std::make_unique<ModelService>(*backend_);

  grpc::EnableDefaultHealthCheckService(true);
  if (options_.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  if (!options_.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  int port = 0;
  builder.AddListeningPort(address.ToString(), grpc::InsecureServerCredentials(), &port);
  builder.SetMaxReceiveMessageSize(options_.max_message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinClientPingMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kServerPingMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
  // Else a second server would share the port in silence.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.RegisterService(session_service_.get());
  builder.RegisterService(model_service_.get());
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
  metrics_.SetServing(true);
  return absl::OkStatus();
}

void Server::Impl::Stop() {
  if (grpc_ != nullptr) {
    const auto deadline =
        std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(options_.drain_grace);
    metrics_.SetServing(false);
    grpc_->GetHealthCheckService()->Shutdown();
    calls_.Drain();
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
void Server::Stop() { impl_->Stop(); }

}  // namespace rasq
