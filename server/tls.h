// TLS for the server's port: a certificate, perhaps the authorities that clients' certificates must
// come from, and their replacement while the server runs.
//
// gRPC asks for the certificates at each new connection, so that new ones hold from the next one
// on; connections that stand stay. Files that do not parse, do not belong together or have expired
// are never taken: what was good before stays in force. gRPC's own watcher of files would hand
// them to its handshakes unchecked, which end every new connection until the files are right.
#pragma once

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/security/server_credentials.h"
#include "kernels/base/mutex.h"
#include "server/log.h"

namespace rasq {

// Paths of PEM files; all empty: no TLS.
struct TlsFiles {
  std::string certificate;  // the server's, then those between it and its root
  std::string key;
  std::string client_ca;  // clients must present a certificate of these; empty: they need none

  bool enabled() const { return !certificate.empty() || !key.empty() || !client_ca.empty(); }
};

// The files' content, checked.
struct TlsCertificates {
  std::string certificate;
  std::string key;
  std::string client_ca;

  bool operator==(const TlsCertificates&) const = default;
};

// kInvalidArgument names the option and what is wrong: a file that is missing or no PEM, a key of
// another certificate, a certificate that has expired. Errors hold neither paths nor content.
absl::StatusOr<TlsCertificates> ReadTlsFiles(const TlsFiles& files, absl::Time now);

// Any thread may call any method.
class TlsReloader {
 public:
  // At most this often the files are looked at without being told.
  static constexpr absl::Duration kInterval = absl::Seconds(10);

  // `log` is borrowed.
  TlsReloader(TlsFiles files, TlsCertificates first, const Log& log,
              absl::Duration interval = kInterval);

  // Puts in force what ReadTlsFiles gave.
  void Set(TlsCertificates certificates);

  // For a new connection: the certificates that it is to use, after a look at the files if it is
  // time for one. `changed`: they are others than at the last call.
  TlsCertificates ForConnection(absl::Time now, bool& changed);

 private:
  const TlsFiles files_;
  const Log& log_;
  const absl::Duration interval_;

  Mutex mu_;
  TlsCertificates current_ ABSL_GUARDED_BY(mu_);
  bool changed_ ABSL_GUARDED_BY(mu_) = true;
  absl::Time next_look_ ABSL_GUARDED_BY(mu_);
  absl::Status last_fault_ ABSL_GUARDED_BY(mu_);  // so that each is said once
};

// Credentials of a server that takes its certificates from `reloader`, which they share.
std::shared_ptr<grpc::ServerCredentials> ReloadingCredentials(std::shared_ptr<TlsReloader> reloader,
                                                              bool clients_need_certificates);

}  // namespace rasq
