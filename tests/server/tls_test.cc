#include "server/tls.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/certificates.h"
#include "tests/support/files.h"

namespace rasq {
namespace {

using ::testing::HasSubstr;

std::string ErrorOf(const TlsFiles& files, absl::Time now = absl::Now()) {
  const absl::Status status = ReadTlsFiles(files, now).status();
  return status.ok() ? "no error" : std::string(status.message());
}

class TlsTest : public ::testing::Test {
 protected:
  const CertificateFiles authority_ = MakeAuthority("ca");
  const CertificateFiles server_ = MakeCertificate("server", authority_);
  const TlsFiles files_{server_.certificate, server_.key, authority_.certificate};
};

TEST_F(TlsTest, ReadsWhatBelongsTogether) {
  const absl::StatusOr<TlsCertificates> read = ReadTlsFiles(files_, absl::Now());
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->certificate, ReadFile(server_.certificate));
  EXPECT_EQ(read->client_ca, ReadFile(authority_.certificate));
  // A chain is more than one certificate in a file.
  WriteFile(server_.certificate, ReadFile(server_.certificate) + ReadFile(authority_.certificate));
  EXPECT_EQ(ErrorOf(files_), "no error");
}

TEST_F(TlsTest, SaysWhatIsWrong) {
  EXPECT_EQ(ErrorOf({"", server_.key, ""}), "tls_cert: is needed for TLS");
  EXPECT_EQ(ErrorOf({server_.certificate, "", ""}), "tls_key: is needed for TLS");
  EXPECT_THAT(ErrorOf({"/no/such", server_.key, ""}), HasSubstr("tls_cert: must be a file"));
  EXPECT_THAT(ErrorOf({server_.key, server_.key, ""}), HasSubstr("tls_cert: must hold cert"));
  EXPECT_THAT(ErrorOf({server_.certificate, server_.certificate, ""}),
              HasSubstr("tls_key: must hold a private key"));
  EXPECT_EQ(ErrorOf({server_.certificate, authority_.key, ""}),
            "tls_key: is not the key of the certificate");
  EXPECT_THAT(ErrorOf({server_.certificate, server_.key, server_.key}),
              HasSubstr("tls_client_ca: must hold cert"));
  EXPECT_EQ(ErrorOf(files_, absl::Now() + absl::Hours(48)),
            "tls_cert: the certificate has expired");
}

TEST_F(TlsTest, ALaterCertificateOfAFileMustParseToo) {
  std::string damaged = ReadFile(authority_.certificate);
  damaged[damaged.size() / 2] = '!';
  WriteFile(server_.certificate, ReadFile(server_.certificate) + damaged);
  EXPECT_THAT(ErrorOf(files_), HasSubstr("tls_cert: must hold certificates"));
}

TEST_F(TlsTest, NewFilesAreSeenInTimeAndBadOnesAreNot) {
  std::FILE* const stream = std::tmpfile();
  const Log log(LogFormat::kText, stream);
  const absl::StatusOr<TlsCertificates> first = ReadTlsFiles(files_, absl::Now());
  ASSERT_TRUE(first.ok());
  TlsReloader reloader(files_, *first, log, /*interval=*/absl::Seconds(10));
  const absl::Time start = absl::Now();
  bool changed = false;
  EXPECT_EQ(reloader.ForConnection(start, changed), *first);
  EXPECT_TRUE(changed);  // to whom had none

  const CertificateFiles next = MakeCertificate("next", authority_);
  WriteFile(server_.certificate, ReadFile(next.certificate));  // the key is still the old one's
  EXPECT_EQ(reloader.ForConnection(start + absl::Seconds(11), changed), *first);
  EXPECT_FALSE(changed);
  WriteFile(server_.key, ReadFile(next.key));
  EXPECT_EQ(reloader.ForConnection(start + absl::Seconds(12), changed), *first) << "too early";
  EXPECT_FALSE(changed);
  EXPECT_EQ(reloader.ForConnection(start + absl::Seconds(22), changed).key, ReadFile(next.key));
  EXPECT_TRUE(changed);
  std::rewind(stream);
  char line[256] = {};
  ASSERT_NE(std::fgets(line, sizeof(line), stream), nullptr);
  EXPECT_THAT(line, HasSubstr("certificates stay as they were: tls_key: is not the key"));
  EXPECT_EQ(std::fgets(line, sizeof(line), stream), nullptr) << line;
  std::fclose(stream);
}

}  // namespace
}  // namespace rasq
