#include "server/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/json_reader.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "kernels/base/status.h"

namespace rasq {
namespace {

constexpr int64_t kMaxFileBytes = 1 << 20;

template <typename T, void (*kFree)(T*)>
struct Freer {
  void operator()(T* object) const { kFree(object); }
};
using Certificate = std::unique_ptr<X509, Freer<X509, X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY, EVP_PKEY_free>>;
using Bytes = std::unique_ptr<BIO, Freer<BIO, BIO_free_all>>;

Bytes Open(const std::string& pem) {
  return Bytes(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// An encrypted key has no one here to ask for its password.
int NoPassword(char*, int, int, void*) { return -1; }

absl::Status Bad(absl::string_view option, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(option, ": ", what));
}

absl::StatusOr<std::string> ReadPem(const std::string& path, absl::string_view option) {
  if (path.empty()) return Bad(option, "is needed for TLS");
  absl::StatusOr<std::string> text = ReadTextFile(path, kMaxFileBytes);
  if (!text.ok()) return Bad(option, "must be a file that the server may read, of at most 1 MiB");
  return text;
}

// All certificates of a file; at least one.
absl::StatusOr<std::vector<Certificate>> ParseCertificates(const std::string& pem,
                                                           absl::string_view option) {
  const Bytes bytes = Open(pem);
  std::vector<Certificate> certificates;
  while (X509* const next = PEM_read_bio_X509(bytes.get(), nullptr, NoPassword, nullptr)) {
    certificates.emplace_back(next);
  }
  // The end of the file is an error of its own; anything else is a certificate that does not parse.
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (certificates.empty() || !at_end) return Bad(option, "must hold certificates, as PEM");
  return certificates;
}

// For gRPC's C core, whose C++ layer has no way to replace certificates that it is given.
class Credentials final : public grpc::ServerCredentials {
 public:
  Credentials(std::shared_ptr<TlsReloader> reloader, bool clients_need_certificates)
      : reloader_(std::move(reloader)),
        // The options are the credentials' from here on.
        credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(
                clients_need_certificates
                    ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                    : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
                &Fetch, reloader_.get()))) {}
  ~Credentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status Fetch(
      void* reloader, grpc_ssl_server_certificate_config** config) {
    bool changed = false;
    const TlsCertificates certificates =
        static_cast<TlsReloader*>(reloader)->ForConnection(absl::Now(), changed);
    if (!changed) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const grpc_ssl_pem_key_cert_pair pair = {certificates.key.c_str(),
                                             certificates.certificate.c_str()};
    // gRPC wants some, though no client is asked for a certificate.
    const std::string& roots =
        certificates.client_ca.empty() ? certificates.certificate : certificates.client_ca;
    *config = grpc_ssl_server_certificate_config_create(roots.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<TlsReloader> reloader_;
  grpc_server_credentials* const credentials_;
};

}  // namespace

absl::StatusOr<TlsCertificates> ReadTlsFiles(const TlsFiles& files, absl::Time now) {
  TlsCertificates read;
  RASQ_ASSIGN_OR_RETURN(read.certificate, ReadPem(files.certificate, "tls_cert"));
  RASQ_ASSIGN_OR_RETURN(read.key, ReadPem(files.key, "tls_key"));
  RASQ_ASSIGN_OR_RETURN(const std::vector<Certificate> chain,
                        ParseCertificates(read.certificate, "tls_cert"));
  std::time_t seconds = absl::ToTimeT(now);
  if (X509_cmp_time(X509_get0_notAfter(chain.front().get()), &seconds) < 0) {
    return Bad("tls_cert", "the certificate has expired");
  }
  const Key key(PEM_read_bio_PrivateKey(Open(read.key).get(), nullptr, NoPassword, nullptr));
  ERR_clear_error();
  if (key == nullptr) return Bad("tls_key", "must hold a private key, as PEM without a password");
  const bool belongs = X509_check_private_key(chain.front().get(), key.get()) == 1;
  ERR_clear_error();
  if (!belongs) return Bad("tls_key", "is not the key of the certificate");
  if (!files.client_ca.empty()) {
    RASQ_ASSIGN_OR_RETURN(read.client_ca, ReadPem(files.client_ca, "tls_client_ca"));
    RASQ_RETURN_IF_ERROR(ParseCertificates(read.client_ca, "tls_client_ca").status());
  }
  return read;
}

TlsReloader::TlsReloader(TlsFiles files, TlsCertificates first, const Log& log,
                         absl::Duration interval)
    : files_(std::move(files)),
      log_(log),
      interval_(interval),
      current_(std::move(first)),
      next_look_(absl::Now() + interval) {}

void TlsReloader::Set(TlsCertificates certificates) {
  MutexLock lock(mu_);
  if (certificates == current_) return;
  current_ = std::move(certificates);
  changed_ = true;
  last_fault_ = absl::OkStatus();
}

TlsCertificates TlsReloader::ForConnection(absl::Time now, bool& changed) {
  bool look = false;
  {
    MutexLock lock(mu_);
    look = now >= next_look_;
    if (look) next_look_ = now + interval_;
  }
  if (look) {
    absl::StatusOr<TlsCertificates> read = ReadTlsFiles(files_, now);
    const absl::Status status = read.status();
    if (read.ok()) Set(*std::move(read));
    MutexLock lock(mu_);
    if (!status.ok() && status != last_fault_) {
      log_.Message(absl::StrCat("certificates stay as they were: ", status.message()));
    }
    last_fault_ = status;
  }
  MutexLock lock(mu_);
  changed = std::exchange(changed_, false);
  return current_;
}

std::shared_ptr<grpc::ServerCredentials> ReloadingCredentials(std::shared_ptr<TlsReloader> reloader,
                                                              bool clients_need_certificates) {
  return std::make_shared<Credentials>(std::move(reloader), clients_need_certificates);
}

}  // namespace rasq
