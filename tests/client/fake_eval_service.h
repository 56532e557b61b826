// A server whose sessions remember all their text, and that knows one thing: where bAbI's people
// were said to be last. Its tokens are words, each as likely as exp(-kWordLoss).
#pragma once

#include <grpcpp/grpcpp.h>

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "rasq/v1/model.grpc.pb.h"
#include "rasq/v1/session.grpc.pb.h"

namespace rasq::client {

inline int64_t CountWords(absl::string_view text) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(text, absl::ByAnyChar(" \n\t"), absl::SkipEmpty());
  return static_cast<int64_t>(words.size());
}

inline constexpr double kWordLoss = 0.75;

class FakeEvalService : public v1::SessionService::Service {
 public:
  grpc::Status CreateSession(grpc::ServerContext*, const v1::CreateSessionRequest* request,
                             v1::CreateSessionResponse* response) override {
    const std::lock_guard<std::mutex> lock(mu_);
    if (request->options().retrieval_budget_tokens() > kMaxBudget) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "options.retrieval_budget_tokens: too large"};
    }
    const std::string id = absl::StrCat("s", ++created_);
    sessions_[id].strategy = request->options().strategy();
    options_.push_back(request->options());
    response->mutable_session()->set_session_id(id);
    response->mutable_session()->set_state_bytes(1000);
    return grpc::Status::OK;
  }
  grpc::Status GetSession(grpc::ServerContext*, const v1::GetSessionRequest* request,
                          v1::GetSessionResponse* response) override {
    const std::lock_guard<std::mutex> lock(mu_);
    const std::string& text = sessions_.at(request->session_id()).text;
    v1::Session& session = *response->mutable_session();
    session.set_session_id(request->session_id());
    session.set_next_offset(static_cast<int64_t>(text.size()));
    session.set_context_tokens(CountWords(text));
    session.set_state_bytes(1000);
    return grpc::Status::OK;
  }
  grpc::Status DeleteSession(grpc::ServerContext*, const v1::DeleteSessionRequest* request,
                             v1::DeleteSessionResponse*) override {
    const std::lock_guard<std::mutex> lock(mu_);
    texts_.push_back(sessions_.at(request->session_id()).text);
    sessions_.erase(request->session_id());
    return grpc::Status::OK;
  }
  grpc::Status StreamAppend(grpc::ServerContext*,
                            grpc::ServerReaderWriter<v1::StreamAppendResponse,
                                                     v1::StreamAppendRequest>* stream) override {
    v1::StreamAppendRequest request;
    std::string id;
    int64_t scored = 0;
    while (stream->Read(&request)) {
      if (id.empty()) id = request.session_id();
      if (request.score()) scored += CountWords(request.content().text());
      const std::lock_guard<std::mutex> lock(mu_);
      Session& session = sessions_.at(id);
      session.text += request.content().text();
      const int64_t words = CountWords(session.text);
      if (session.strategy == v1::STRATEGY_FULL && words > kMaxFullWords) {
        return {grpc::StatusCode::FAILED_PRECONDITION, "context is full"};
      }
      v1::StreamAppendResponse ack;
      ack.set_next_offset(static_cast<int64_t>(session.text.size()));
      ack.set_context_tokens(words);
      ack.set_accepted_tokens(words);
      ack.set_absorbed_tokens(words);
      ack.set_scored_tokens(scored);
      ack.set_logprob_sum(-kWordLoss * static_cast<double>(scored));
      stream->Write(ack);
    }
    return grpc::Status::OK;
  }
  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const std::lock_guard<std::mutex> lock(mu_);
    if (--generations_left_ < 0) return {grpc::StatusCode::UNAVAILABLE, "stopping"};
    if (request->stop().ignore_eos()) {  // two tokens a message
      for (int i = 0; i < request->stop().max_new_tokens(); i += 2) {
        v1::GenerateResponse pair;
        pair.add_tokens();
        pair.add_tokens();
        writer->Write(pair);
      }
      v1::GenerateResponse last;
      last.mutable_summary();
      writer->Write(last);
      return grpc::Status::OK;
    }
    prompts_.push_back(request->prompt().text());
    const Session& session = sessions_.at(request->session_id());
    v1::GenerateResponse piece;
    piece.set_text(absl::StrCat(" ", Answer(session.text, request->prompt().text())));
    writer->Write(piece);
    v1::GenerateResponse last;
    last.mutable_summary()->set_context_tokens(CountWords(session.text));
    last.mutable_summary()->mutable_time_to_first_token()->set_nanos(5'000'000);
    writer->Write(last);
    return grpc::Status::OK;
  }

  std::vector<std::string> texts() const {  // of deleted sessions
    const std::lock_guard<std::mutex> lock(mu_);
    return texts_;
  }
  std::vector<std::string> prompts() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return prompts_;
  }
  std::vector<v1::SessionOptions> options() const {  // of all sessions that there were
    const std::lock_guard<std::mutex> lock(mu_);
    return options_;
  }
  int open_sessions() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return static_cast<int>(sessions_.size());
  }
  void set_generations_left(int64_t count) {
    const std::lock_guard<std::mutex> lock(mu_);
    generations_left_ = count;
  }

 private:
  struct Session {
    std::string text;
    v1::Strategy strategy = v1::STRATEGY_UNSPECIFIED;
  };
  // bAbI's task 1: where the person of the question was said to be last.
  static std::string Answer(const std::string& text, const std::string& prompt) {
    const std::vector<std::string> words =
        absl::StrSplit(prompt, absl::ByAnyChar(" ?\n"), absl::SkipEmpty());
    const std::string person = words.size() > 3 ? words[3] : "";  // "Question: Where is Mary"
    const size_t at = text.rfind(person + " ");
    if (at == std::string::npos) return "nowhere";
    const std::string sentence = text.substr(at, text.find('.', at) - at);
    return sentence.substr(sentence.rfind(' ') + 1);
  }

  mutable std::mutex mu_;  // guards what follows
  std::map<std::string, Session> sessions_;
  std::vector<std::string> texts_, prompts_;
  std::vector<v1::SessionOptions> options_;
  int created_ = 0;
  int64_t generations_left_ = 1 << 30;
  static constexpr int64_t kMaxFullWords = 600;
  static constexpr int32_t kMaxBudget = 1000;
};

class FakeModelService : public v1::ModelService::Service {
 public:
  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest*,
                        v1::GetModelResponse* response) override {
    response->set_name("fake");
    response->set_fingerprint(fingerprint_);
    response->set_window_tokens(64);
    return grpc::Status::OK;
  }
  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    for (int64_t i = CountWords(request->text()); i > 0; --i) response->add_token_ids(1);
    return grpc::Status::OK;
  }

  std::string fingerprint_ = "f1";  // set before the first call
};

}  // namespace rasq::client
