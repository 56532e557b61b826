// TLS as clients meet it: whom they trust, whom the server trusts, and certificates that change.
#include <chrono>

#include "gtest/gtest.h"
#include "tests/support/certificates.h"
#include "tests/support/files.h"
#include "tests/support/server_fixture.h"

namespace rasq {
namespace {

using grpc::StatusCode;

class TlsServerTest : public ServerTest {
 protected:
  ServerOptions Options() const {
    ServerOptions options = TestServerOptions();
    options.tls = {.certificate = server_files_.certificate, .key = server_files_.key};
    options.tls_interval = absl::ZeroDuration();  // a look at the files for each connection
    return options;
  }

  // How a call over a new connection ends.
  StatusCode Call(const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    const auto stub = v1::ModelService::NewStub(Connect(credentials));
    grpc::ClientContext context;
    v1::GetModelResponse response;
    return stub->GetModel(&WithDeadline(context), v1::GetModelRequest(), &response).error_code();
  }

  static std::shared_ptr<grpc::ChannelCredentials> Trusting(const CertificateFiles& authority,
                                                            const CertificateFiles& own = {}) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = ReadFile(authority.certificate);
    if (!own.key.empty()) {
      options.pem_private_key = ReadFile(own.key);
      options.pem_cert_chain = ReadFile(own.certificate);
    }
    return grpc::SslCredentials(options);
  }

  void Install(const CertificateFiles& files) {
    WriteFile(server_files_.key, ReadFile(files.key));
    WriteFile(server_files_.certificate, ReadFile(files.certificate));
  }

  const CertificateFiles authority_ = MakeAuthority("authority");
  const CertificateFiles stranger_ = MakeAuthority("stranger");
  const CertificateFiles server_files_ = MakeCertificate("server", authority_);
};

TEST_F(TlsServerTest, ClientsTrustItsAuthorityOrLeave) {
  StartServer(Options());
  EXPECT_EQ(Call(Trusting(authority_)), StatusCode::OK);
  EXPECT_EQ(Call(Trusting(stranger_)), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Call(grpc::InsecureChannelCredentials()), StatusCode::UNAVAILABLE);
}

TEST_F(TlsServerTest, ClientsShowACertificateIfAskedTo) {
  ServerOptions options = Options();
  options.tls.client_ca = authority_.certificate;
  StartServer(options);
  EXPECT_EQ(Call(Trusting(authority_, MakeCertificate("client", authority_))), StatusCode::OK);
  EXPECT_EQ(Call(Trusting(authority_)), StatusCode::UNAVAILABLE);
  EXPECT_EQ(Call(Trusting(authority_, MakeCertificate("spy", stranger_))), StatusCode::UNAVAILABLE);
}

TEST_F(TlsServerTest, ReplacedCertificatesHoldFromTheNextConnectionOn) {
  StartServer(Options());
  const auto before = v1::ModelService::NewStub(Connect(Trusting(authority_)));
  const auto call = [](v1::ModelService::Stub& stub) {
    grpc::ClientContext context;
    v1::GetModelResponse response;
    return stub.GetModel(&WithDeadline(context), v1::GetModelRequest(), &response).error_code();
  };
  EXPECT_EQ(call(*before), StatusCode::OK);
  const CertificateFiles next_authority = MakeAuthority("next-authority");
  const CertificateFiles next = MakeCertificate("next", next_authority);

  WriteFile(server_files_.certificate, ReadFile(next.certificate));  // its key is not there yet
  EXPECT_EQ(Call(Trusting(authority_)), StatusCode::OK) << "half a change holds nothing up";
  EXPECT_EQ(server().Reload().code(), absl::StatusCode::kInvalidArgument);
  Install(next);
  EXPECT_EQ(Call(Trusting(next_authority)), StatusCode::OK);
  EXPECT_EQ(Call(Trusting(authority_)), StatusCode::UNAVAILABLE);
  EXPECT_EQ(call(*before), StatusCode::OK) << "connections that stand stay";
}

TEST_F(TlsServerTest, ReloadNeedsNoWait) {
  ServerOptions options = Options();
  options.tls_interval = absl::Hours(1);
  StartServer(options);
  EXPECT_EQ(Call(Trusting(authority_)), StatusCode::OK);
  const CertificateFiles next_authority = MakeAuthority("next-authority");
  Install(MakeCertificate("next", next_authority));
  EXPECT_EQ(Call(Trusting(next_authority)), StatusCode::UNAVAILABLE);
  EXPECT_TRUE(server().Reload().ok());
  EXPECT_EQ(Call(Trusting(next_authority)), StatusCode::OK);
}

TEST_F(TlsServerTest, BadFilesAreSaidAtTheStart) {
  ServerOptions options = Options();
  options.tls.key = stranger_.key;
  const absl::Status status = Server::Start(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "tls_key: is not the key of the certificate");
}

TEST_F(TlsServerTest, ItMayBePublic) {
  ServerOptions options = Options();
  options.listen = "0.0.0.0:0";
  EXPECT_TRUE(Validate(options).ok());
  options.metrics_listen = "0.0.0.0:0";  // which stays plain
  EXPECT_FALSE(Validate(options).ok());
}

}  // namespace
}  // namespace rasq
