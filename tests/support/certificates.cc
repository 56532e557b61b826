#include "tests/support/certificates.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "kernels/base/status.h"
#include "tests/support/files.h"

namespace rasq {
namespace {

CertificateFiles Make(const std::string& name, const std::string& more) {
  const std::string stem = TemporaryPath(name);
  const CertificateFiles files{.certificate = stem + ".pem", .key = stem + ".key"};
  const std::string command = absl::StrCat(
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj "
      "/CN=",
      name, " -keyout ", files.key, " -out ", files.certificate, " ", more, " 2>/dev/null");
  RASQ_CHECK(std::system(command.c_str()) == 0);
  return files;
}

}  // namespace

CertificateFiles MakeAuthority(const std::string& name) { return Make(name, ""); }

CertificateFiles MakeCertificate(const std::string& name, const CertificateFiles& authority) {
  return Make(name, absl::StrCat("-CA ", authority.certificate, " -CAkey ", authority.key,
                                 " -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
                                 " -addext basicConstraints=critical,CA:FALSE"));
}

}  // namespace rasq
