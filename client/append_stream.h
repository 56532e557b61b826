// Sends text into one session in pieces, each with its offset, and resumes after a broken
// connection, or when the server has no room, from where the server says it stands: no byte is lost
// or doubled.
//
// The session's text is one long byte string; an offset counts its bytes from the session's first.
// Offsets leave room for one writer a session: a second one ends this stream with kOutOfRange or
// kFailedPrecondition.
//
// Threads: one thread calls Write, Flush and Finish; progress() may be called by any.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/utf8.h"
#include "rasq/v1/session.grpc.pb.h"

namespace rasq::client {

class Client;

struct AppendStreamOptions {
  int64_t piece_bytes = 16 << 10;           // of one message, at most
  int64_t max_in_flight_bytes = 256 << 10;  // sent and not acknowledged: Write waits past it
  // Attempts in a row that get no byte across before the stream gives up.
  int max_attempts = 5;
  absl::Duration first_backoff = absl::Milliseconds(100);  // before the second; doubles each time
  // How long one attempt waits for the server to be there again.
  absl::Duration reconnect_timeout = absl::Seconds(20);
  bool score = false;  // have the server score each token: see AppendRequest in session.proto
};

struct AppendProgress {
  int64_t acknowledged_bytes = 0;  // of what was written here
  int64_t appended_tokens = 0;     // absorbed since this stream began
  int64_t context_tokens = 0;      // the session's
  int64_t next_offset = 0;         // the session's
  // With AppendStreamOptions::score. What a broken connection did not tell any more is in neither.
  int64_t scored_tokens = 0;
  double logprob_sum = 0;  // of these, natural logarithm
  int reconnects = 0;
};

class AppendStream {
 public:
  // As Client::StartAppend. Nothing is sent yet. Borrows `client`.
  AppendStream(Client* client, std::string session_id, const AppendStreamOptions& options);
  // Breaks off if Finish was not called: what was not acknowledged may or may not be there.
  ~AppendStream();
  AppendStream(const AppendStream&) = delete;
  AppendStream& operator=(const AppendStream&) = delete;

  // Sends text, of any size; a character may be cut between two calls. Waits while too much is in
  // flight. kInvalidArgument names the first byte that is not UTF-8, counted from this stream's
  // first. After any error the stream is over, and all calls return that error.
  absl::Status Write(absl::string_view text);
  // Waits until all that was written is in the session's state.
  absl::Status Flush();
  // Flushes and ends the stream.
  absl::StatusOr<AppendProgress> Finish();

  AppendProgress progress() const;

 private:
  struct Connection;
  struct Piece {
    int64_t offset;
    std::string text;
  };

  // Hands over text of whole characters, in pieces.
  absl::Status Send(absl::string_view text);
  // Sends the pieces that this connection has not carried, and waits until `done` holds, over new
  // connections if one breaks. `done` is called with mu_ held.
  absl::Status Await(const std::function<bool()>& done);
  absl::Status Pump();
  // Learns from the server where the session stands, and drops what has arrived.
  absl::Status Synchronise();
  void Connect();
  // Ends the connection. OK if another may be tried, else why not.
  absl::Status Disconnect();
  void ReadAcks(Connection* connection);
  void Acknowledge(int64_t next_offset, int64_t context_tokens);  // requires mu_
  int64_t InFlightBytes() const;                                  // requires mu_

  Client* const client_;
  const std::string session_id_;
  const AppendStreamOptions options_;

  // Owned by the writing thread.
  std::unique_ptr<Connection> connection_;
  absl::Status status_;  // the first error; sticks
  Utf8Decoder decoder_{Utf8Decoder::Invalid::kRefuse};
  bool started_ = false;       // the session's first position is known
  bool synchronised_ = false;  // its position is known, for the connection to come
  int connections_ = 0;
  int64_t end_offset_ = 0;        // past the last byte handed over
  int64_t sent_offset_ = 0;       // past the last byte sent on this connection
  int attempts_ = 0;              // in a row that got no byte across
  absl::Duration asked_backoff_;  // the server's, after the last connection's end

  mutable std::mutex mu_;
  std::deque<Piece> pieces_;  // guarded by mu_: handed over, not acknowledged
  AppendProgress progress_;   // guarded by mu_
  int64_t first_offset_ = 0;  // guarded by mu_: where this stream began
  int64_t first_tokens_ = 0;  // guarded by mu_
};

}  // namespace rasq::client
