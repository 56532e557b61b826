// Clients that stop reading, call without end, or speak garbage, to a server in a process of its
// own: it must serve the others meanwhile, and keep neither memory nor files afterwards.
// RASQ_FUZZ_CONNECTIONS sets how many connections speak garbage.
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/support/engine_harness.h"
#include "tests/support/server_fixture.h"
#include "tests/support/server_program.h"

namespace rasq {
namespace {

using grpc::StatusCode;

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr int64_t kMebibyte = 1 << 20;

class HostileClientTest : public ::testing::Test {
 protected:
  void Start(const std::vector<std::string>& flags) {
    server_ = std::make_unique<ServerProgram>(RASQ_SERVER_BINARY, flags);
    ASSERT_TRUE(server_->listening()) << server_->Log();
    ASSERT_TRUE(server_->Create("s").ok());
    ASSERT_TRUE(server_->Append("s", "Something to read. ").ok());
  }
  void ExpectServed() {
    EXPECT_TRUE(server_->Serving());
    EXPECT_TRUE(server_->Append("s", "More to read. ").ok());
    std::string text;
    EXPECT_TRUE(server_->Generate(Question("s", 4), &text).ok());
    EXPECT_FALSE(text.empty());
  }

  std::unique_ptr<ServerProgram> server_;
};

TEST_F(HostileClientTest, AReaderThatStopsDelaysItselfAlone) {
  Start({"--max-sessions=4", "--max-generations=2"});
  ASSERT_TRUE(server_->Create("stalled").ok());
  constexpr int kTokens = 1500;
  v1::GenerateRequest request = Question("stalled", kTokens);
  request.set_logprobs(20);  // more than a connection's window holds
  const auto channel = server_->Connect();
  const auto stub = v1::SessionService::NewStub(channel);
  grpc::ClientContext context;
  const auto reader = stub->Generate(&WithDeadline(context, 120), request);
  ExpectServed();
  // The engine is through with it though nobody reads.
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (server_->Info().generations_running() > 0 && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
  }
  EXPECT_EQ(server_->Info().generations_running(), 0);
  ExpectServed();
  int tokens = 0;
  v1::GenerateResponse response;
  while (reader->Read(&response)) tokens += response.tokens_size();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, kTokens) << "and then all of it is there";
}

TEST_F(HostileClientTest, AWriterThatReadsNoAcksIsAbsorbed) {
  Start({"--max-sessions=4"});
  ASSERT_TRUE(server_->Create("stalled").ok());
  const int64_t memory = server_->ResidentBytes();
  grpc::ClientContext context;
  const auto channel = server_->Connect();
  const auto stub = v1::SessionService::NewStub(channel);
  const auto stream = stub->StreamAppend(&WithDeadline(context, 120));
  v1::StreamAppendRequest request;
  request.set_session_id("stalled");
  request.mutable_content()->set_text("Tick. ");
  constexpr int kMessages = 4000;
  for (int i = 0; i < kMessages; ++i) ASSERT_TRUE(stream->Write(request));
  stream->WritesDone();
  v1::Session session;
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  do {
    ASSERT_TRUE(server_->Get("stalled", &session).ok());
  } while ((session.next_offset() < 6 * kMessages || session.backlog_tokens() > 0) &&
           std::chrono::steady_clock::now() < patience);
  EXPECT_EQ(session.next_offset(), 6 * kMessages);
  EXPECT_EQ(session.backlog_tokens(), 0);
  EXPECT_LT(server_->ResidentBytes(), memory + 64 * kMebibyte);
  ExpectServed();
  v1::StreamAppendResponse ack, last;
  while (stream->Read(&ack)) last = ack;
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(last.absorbed_tokens(), session.context_tokens());
}

TEST_F(HostileClientTest, AFloodIsRefusedAndHealthAnswers) {
  Start({"--max-calls=8", "--max-queued-generations=2", "--max-sessions=4"});
  const int64_t memory = server_->ResidentBytes();
  std::atomic<bool> stop = false;
  std::atomic<int> served = 0, refused = 0, other = 0;
  std::vector<std::thread> flood;
  for (int i = 0; i < 48; ++i) {
    flood.emplace_back([&, i] {
      while (!stop) {
        const grpc::Status status = i % 2 == 0 ? server_->Append("s", testing::Prose(i, 2000))
                                               : server_->Generate(Question("s", 4));
        const bool full = status.error_code() == StatusCode::RESOURCE_EXHAUSTED ||
                          status.error_code() == StatusCode::ABORTED;  // one generation at a time
        ++(status.ok() ? served : full ? refused : other);
      }
    });
  }
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(server_->Serving()) << i;
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while ((served < 10 || refused < 100) && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
  }
  stop = true;
  for (std::thread& thread : flood) thread.join();
  EXPECT_GE(served, 10);
  EXPECT_GE(refused, 100);
  EXPECT_EQ(other, 0);
  EXPECT_LT(server_->ResidentBytes(), memory + 128 * kMebibyte);
  ExpectServed();
}

// Bytes of HTTP/2 that are right in part.
class Garbage {
 public:
  explicit Garbage(uint64_t seed) : random_(seed) {}

  std::string Connection() {
    const std::string settings = kPreface + Frame(4, 0, 0, "");
    switch (random_() % 9) {
      case 0:
        return Bytes(random_() % 4000);
      case 1:
        return std::string(kPreface).substr(0, random_() % 24);
      case 2:
        return settings + Frames(20);
      case 3: {  // frames that end too early
        const std::string all = settings + Frames(3);
        return all.substr(0, random_() % all.size());
      }
      case 4:  // headers without end, and of great size
        return settings + Frame(1, 0, 1, Header("x", std::string(16000, 'x'))) +
               Many(20, [&] { return Frame(9, 0, 1, Header("y", std::string(16000, 'y'))); });
      case 5:  // a call whose message is not as long as it says, or is none
        return settings + Frame(1, 4, 1, Call()) +
               Frame(0, random_() % 2, 1, std::string("\0\xFF\xFF\xFF\xFF", 5) + Bytes(200)) +
               Frame(0, 1, 1, std::string("\0\0\0\0\x10", 5) + Bytes(16));
      case 6:  // calls that are taken back at once
        return settings + Many(100, [&] {
                 stream_ += 2;
                 return Frame(1, 4, stream_, Call()) + Frame(3, 0, stream_, Bytes(4));
               });
      case 7:
        return settings +
               Many(300, [&] { return Frame(4, 0, 0, std::string("\0\3\0\0\0\1", 6)); }) +
               Many(300, [&] { return Frame(6, 0, 0, Bytes(8)); });
      default:
        return settings + Frame(1, 4, 1, Bytes(random_() % 300)) + Frame(8, 0, 0, Bytes(4));
    }
  }
  std::string Bytes(size_t count) {
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random_());
    return bytes;
  }

 private:
  static std::string Frame(int type, int flags, uint32_t stream, const std::string& payload) {
    const auto size = static_cast<uint32_t>(payload.size());
    std::string head;
    for (const uint32_t byte :
         {size >> 16, size >> 8, size, static_cast<uint32_t>(type), static_cast<uint32_t>(flags),
          stream >> 24, stream >> 16, stream >> 8, stream}) {
      head.push_back(static_cast<char>(byte));
    }
    return head + payload;
  }
  static std::string Many(int count, const std::function<std::string()>& make) {
    std::string all;
    for (int i = 0; i < count; ++i) all += make();
    return all;
  }
  std::string Frames(int most) {
    return Many(1 + static_cast<int>(random_() % most), [&] {
      return Frame(static_cast<int>(random_() % 12), static_cast<int>(random_() % 256),
                   static_cast<uint32_t>(random_() % 7), Bytes(random_() % 100));
    });
  }
  // A literal without indexing or Huffman code; its value may be long.
  static std::string Header(const std::string& name, const std::string& value) {
    std::string header("\0", 1);
    header += static_cast<char>(name.size()) + name;
    if (value.size() < 127) return header + static_cast<char>(value.size()) + value;
    header.push_back('\x7F');
    size_t rest = value.size() - 127;
    for (; rest >= 128; rest /= 128) header.push_back(static_cast<char>(rest % 128 + 128));
    return header + static_cast<char>(rest) + value;
  }
  static std::string Call() {
    return Header(":method", "POST") + Header(":scheme", "http") +
           Header(":path", "/rasq.v1.SessionService/Append") + Header(":authority", "x") +
           Header("te", "trailers") + Header("content-type", "application/grpc");
  }

  std::mt19937_64 random_;
  uint32_t stream_ = 1;
};

TEST_F(HostileClientTest, GarbageLeavesNothing) {
  Start({"--max-sessions=4"});
  const int connections = NumberOr("RASQ_FUZZ_CONNECTIONS", 1000);
  Garbage garbage(/*seed=*/7);
  const auto talk = [&](int count) {
    for (int i = 0; i < count; ++i) {
      const int socket = OpenSocket(server_->address());
      ASSERT_GE(socket, 0) << "connection " << i;
      const std::string bytes = garbage.Connection();
      send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (i % 4 == 0) {  // hears what the server says to it
        pollfd answer{socket, POLLIN, 0};
        char some[512];
        if (poll(&answer, 1, /*milliseconds=*/5) == 1) recv(socket, some, sizeof(some), 0);
      }
      close(socket);
    }
  };
  talk(connections / 5);  // what is allocated once is so by then
  ExpectServed();
  const int files = server_->OpenFiles();
  const int64_t memory = server_->ResidentBytes();
  // Meanwhile some hold a connection and send a byte now and then.
  std::vector<int> slow;
  for (int i = 0; i < 64; ++i) slow.push_back(OpenSocket(server_->address()));
  for (int part = 0; part < 8; ++part) {
    for (const int socket : slow) send(socket, &kPreface[part], 1, MSG_NOSIGNAL);
    talk(connections / 10);
    ExpectServed();
  }
  for (const int socket : slow) close(socket);
  ExpectServed();
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (server_->OpenFiles() > files + 4 && std::chrono::steady_clock::now() < patience) {
    std::this_thread::yield();
  }
  EXPECT_LE(server_->OpenFiles(), files + 4);
  EXPECT_LT(server_->ResidentBytes(), memory + 64 * kMebibyte);
  EXPECT_EQ(server_->Info().sessions_open(), 1);
  EXPECT_EQ(server_->Stop(), 0);
}

}  // namespace
}  // namespace rasq
