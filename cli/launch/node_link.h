// What the launchers of several machines tell each other: when to start, that a rank failed, when all have ended.
//
// Node 0 listens at --rdzv-endpoint; the others connect and keep the connection. Lines of text: "join NODE", "failed CODE
// TEXT", "ended CODE" one way; "start ATTEMPT PORT", "stop TEXT", "finish CODE TEXT" the other; "ping" both ways. A machine
// that is silent for 15 s counts as lost. One launcher of ours on either side; other input closes the connection.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

namespace oumi::cli {

struct NodeLinkOptions {
  std::int64_t nnodes = 1;
  std::int64_t node_rank = 0;
  std::string host;  // of node 0
  std::int64_t port = 0;
  std::int64_t max_restarts = 0;
  std::chrono::seconds join_timeout = std::chrono::minutes(5);
};

class NodeLink {
 public:
  virtual ~NodeLink() = default;

  struct Start {
    std::int64_t attempt = 0;
    std::int64_t master_port = 0;  // free on node 0
  };
  // Waits until every machine is there. Throws EnvironmentError naming those that are not.
  virtual Start begin() = 0;
  // Takes in what has come; call often while ranks run.
  virtual void poll() = 0;
  // Why the ranks here are to be stopped; empty: they are not.
  virtual std::string stop_reason() const = 0;
  virtual void report_failure(int exit_code, const std::string& text) = 0;

  struct Verdict {
    bool again = false;
    int exit_code = 0;
    std::string text;  // the first failure of the run; empty when all is well
  };
  // After all ranks here have ended: waits for the other machines and says what comes next. `may_restart`: false after a
  // signal.
  virtual Verdict end(int exit_code, bool may_restart) = 0;
};

std::unique_ptr<NodeLink> make_node_link(const NodeLinkOptions& options);

}  // namespace oumi::cli
