#include "cli/launch/node_link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <iostream>
#include <map>
#include <sstream>
#include <thread>
#include <vector>

#include "cli/launch/free_port.h"
#include "cli/launch/line_socket.h"
#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPoll = std::chrono::milliseconds(50);

// "VERB NUMBER REST".
struct Message {
  std::string verb;
  std::int64_t number = -1;
  std::string rest;

  explicit Message(const std::string& line) {
    std::istringstream words(line);
    words >> verb >> number;
    std::getline(words, rest);
    rest = trim(rest);
  }
};

class Coordinator final : public NodeLink {
 public:
  explicit Coordinator(const NodeLinkOptions& options) : options_(options), listener_(LineSocket::listen_at(options.port)) {}
  ~Coordinator() override { ::close(listener_); }

  Start begin() override {
    const auto deadline = Clock::now() + options_.join_timeout;
    failure_.clear();
    exit_code_ = 0;
    for (auto& [node, member] : members_) member.ended = false;
    while (true) {
      take_in();
      std::vector<std::string> missing;
      for (std::int64_t node = 1; node < options_.nnodes; ++node) {
        const auto found = members_.find(node);
        if (found == members_.end() || !found->second.joined) missing.push_back(cat(node));
      }
      if (missing.empty()) break;
      if (Clock::now() > deadline) {
        throw EnvironmentError("launch",
                               cat("expected ", options_.nnodes, " machines within ", options_.join_timeout.count(),
                                   " s, got no node ", join(missing, ", ")),
                               "start oumi-cpp launch on each machine, with its own --node-rank and the same --rdzv-endpoint");
      }
      std::this_thread::sleep_for(kPoll);
    }
    const Start start{attempt_++, free_port()};
    for (auto& [node, member] : members_) {
      member.joined = false;
      member.socket->send(cat("start ", start.attempt, " ", start.master_port));
    }
    return start;
  }

  void poll() override { take_in(); }
  std::string stop_reason() const override { return failure_; }

  void report_failure(int exit_code, const std::string& text) override {
    if (!failure_.empty()) return;
    failure_ = text;
    exit_code_ = exit_code;
    for (auto& [node, member] : members_) member.socket->send("stop 0 " + text);
  }

  Verdict end(int exit_code, bool may_restart) override {
    while (true) {
      take_in();
      bool all = true;
      for (const auto& [node, member] : members_) all = all && (member.ended || !member.socket->open());
      if (all) break;
      std::this_thread::sleep_for(kPoll);
    }
    Verdict verdict{false, failure_.empty() ? exit_code : exit_code_, failure_};
    verdict.again = !failure_.empty() && may_restart && exit_code_ != static_cast<int>(ExitCode::kUser) &&
                    attempt_ <= options_.max_restarts;
    if (!verdict.again) {
      for (auto& [node, member] : members_) member.socket->send(cat("finish ", verdict.exit_code, " ", failure_));
    } else {
      for (auto& [node, member] : members_) member.socket->send("again 0");
    }
    return verdict;
  }

 private:
  struct Member {
    std::unique_ptr<LineSocket> socket;
    bool joined = false, ended = false;
  };

  void take_in() {
    for (int descriptor = ::accept(listener_, nullptr, nullptr); descriptor >= 0;
         descriptor = ::accept(listener_, nullptr, nullptr)) {
      strangers_.push_back(std::make_unique<LineSocket>(descriptor));
    }
    // A connection belongs to a node once it has said so.
    for (auto& stranger : strangers_) {
      stranger->poll();
      const auto line = stranger->next();
      if (!line) continue;
      const Message message(*line);
      if (message.verb == "join" && message.number > 0 && message.number < options_.nnodes) {
        members_[message.number] = {std::move(stranger), true, false};
      } else {
        stranger->close();
      }
    }
    std::erase_if(strangers_, [](const auto& stranger) { return stranger == nullptr || !stranger->open(); });
    for (auto& [node, member] : members_) {
      const bool was_open = member.socket->open();
      member.socket->poll();
      while (const auto line = member.socket->next()) {
        const Message message(*line);
        if (message.verb == "join") member.joined = true;
        if (message.verb == "ended") member.ended = true;
        if (message.verb == "failed") report_failure(static_cast<int>(message.number), message.rest);
      }
      if (was_open && !member.socket->open()) {
        member.joined = false;
        if (!member.ended)
          report_failure(static_cast<int>(ExitCode::kEnvironment),
                         cat("node ", node, " is lost: its launcher does not answer"));
      }
    }
  }

  NodeLinkOptions options_;
  int listener_;
  std::int64_t attempt_ = 0;
  std::map<std::int64_t, Member> members_;
  std::vector<std::unique_ptr<LineSocket>> strangers_;
  std::string failure_;
  int exit_code_ = 0;
};

class Follower final : public NodeLink {
 public:
  explicit Follower(const NodeLinkOptions& options) : options_(options) {}

  Start begin() override {
    stop_reason_.clear();
    const auto deadline = Clock::now() + options_.join_timeout;
    bool joined = false;
    while (Clock::now() < deadline) {
      if (!socket_ || !socket_->open()) {
        joined = false;
        if (const auto descriptor = LineSocket::connect_to(options_.host, options_.port))
          socket_ = std::make_unique<LineSocket>(*descriptor);
      }
      if (socket_ && socket_->open() && !joined) {
        socket_->send(cat("join ", options_.node_rank));
        joined = true;
      }
      if (socket_) {
        socket_->poll();
        while (const auto line = socket_->next()) {
          Message message(*line);
          if (message.verb == "start") return {message.number, std::atoll(message.rest.c_str())};
        }
      }
      std::this_thread::sleep_for(kPoll);
    }
    throw EnvironmentError("launch",
                           cat("node 0 does not start the run at ", options_.host, ":", options_.port, " within ",
                               options_.join_timeout.count(), " s"),
                           "is oumi-cpp launch --node-rank 0 running there, with the same --nnodes?");
  }

  void poll() override {
    socket_->poll();
    while (const auto line = socket_->next()) {
      const Message message(*line);
      if (message.verb == "stop" && stop_reason_.empty()) stop_reason_ = message.rest;
    }
    if (!socket_->open() && stop_reason_.empty()) stop_reason_ = "node 0 is lost: its launcher does not answer";
  }

  std::string stop_reason() const override { return stop_reason_; }
  void report_failure(int exit_code, const std::string& text) override { socket_->send(cat("failed ", exit_code, " ", text)); }

  Verdict end(int exit_code, bool may_restart) override {
    socket_->send(cat("ended ", exit_code));
    while (socket_->open()) {
      socket_->poll();
      while (const auto line = socket_->next()) {
        const Message message(*line);
        if (message.verb == "finish") return {false, static_cast<int>(message.number), message.rest};
        if (message.verb == "again") return {true, 0, stop_reason_};
      }
      std::this_thread::sleep_for(kPoll);
    }
    // Node 0 may be back later; it decides then.
    return {may_restart && options_.max_restarts > 0, static_cast<int>(ExitCode::kEnvironment),
            "node 0 is lost: its launcher does not answer"};
  }

 private:
  NodeLinkOptions options_;
  std::unique_ptr<LineSocket> socket_;
  std::string stop_reason_;
};

}  // namespace

std::unique_ptr<NodeLink> make_node_link(const NodeLinkOptions& options) {
  if (options.node_rank == 0) return std::make_unique<Coordinator>(options);
  return std::make_unique<Follower>(options);
}

}  // namespace oumi::cli
