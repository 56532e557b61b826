// Certificates for tests, made by the openssl program: an authority and what it has signed. Keys
// are P-256, so that making them takes no time; all are good for a day.
#pragma once

#include <string>

namespace rasq {

struct CertificateFiles {
  std::string certificate;  // paths
  std::string key;
};

// Writes NAME.pem and NAME.key to the test's temporary directory, over those of an earlier call.
// Aborts if openssl fails.
CertificateFiles MakeAuthority(const std::string& name);
// For 127.0.0.1 and localhost, signed by `authority`.
CertificateFiles MakeCertificate(const std::string& name, const CertificateFiles& authority);

}  // namespace rasq
