#include "absl/status/status.h"
#include "client/commands/command.h"

namespace rasq::client {

void AddGlobalFlags(Context* context, FlagSet* flags) {
  flags->Add("address", 'a', &context->client.address,
             "HOST:PORT of the server (default: $RASQ_ADDRESS or 127.0.0.1:50051)");
  flags->Add("output", 'o', "text|json: json is one object, or one a line (default: text)",
             [context](const std::string& value) {
               context->json = value == "json";
               return context->json || value == "text"
                          ? absl::OkStatus()
                          : absl::InvalidArgumentError("not text or json");
             });
  Security& security = context->client.security;
  flags->Add("tls", 0, &security.tls, "use TLS (also $RASQ_TLS, and if one of the next is given)");
  flags->Add(
      "tls-ca", 0, &security.ca,
      "FILE of who may sign the server's certificate (default: $RASQ_TLS_CA or the system's)");
  flags->Add("tls-cert", 0, &security.cert, "FILE of a certificate to show (also $RASQ_TLS_CERT)");
  flags->Add("tls-key", 0, &security.key, "FILE of its key (also $RASQ_TLS_KEY)");
  flags->Add("token-file", 0, &security.token_file,
             "FILE that holds the token (also $RASQ_TOKEN_FILE, or the token itself: $RASQ_TOKEN)");
  flags->Add("insecure", 0, &security.insecure,
             "let the token pass a network without TLS (also $RASQ_INSECURE)");
  flags->Add("deadline", 0, &context->client.deadline,
             "DURATION such as 30s of each call; 0: none");
}

}  // namespace rasq::client
