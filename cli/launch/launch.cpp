#include "cli/launch/launch.h"

#include <poll.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>

#include "cli/launch/free_port.h"
#include "cli/launch/node_link.h"
#include "cli/launch/rank_process.h"
#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPoll = std::chrono::milliseconds(50);
// A rank that lost its peers may exit before the one that caused it: how long to look for the cause.
constexpr auto kCauseWait = std::chrono::seconds(4);
// After SIGTERM, before SIGKILL: long enough for a rank that waits in a collective to see that its peers are gone.
constexpr auto kGrace = std::chrono::seconds(15);

std::atomic<int> received_signal{0};
std::atomic<int> received_count{0};

void on_signal(int signal) {
  received_signal = signal;
  ++received_count;
}

class SignalScope {
 public:
  SignalScope() {
    struct sigaction action{};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < std::size(kSignals); ++i) ::sigaction(kSignals[i], &action, &old_[i]);
  }
  ~SignalScope() {
    for (std::size_t i = 0; i < std::size(kSignals); ++i) ::sigaction(kSignals[i], &old_[i], nullptr);
  }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
  struct sigaction old_[std::size(kSignals)]{};
};

struct Endpoint {
  std::string host;
  std::int64_t port = 0;
};

Endpoint parse_endpoint(const std::string& text) {
  const auto colon = text.rfind(':');
  Endpoint endpoint;
  if (colon != std::string::npos) {
    endpoint.host = text.substr(0, colon);
    const std::string port = text.substr(colon + 1);
    const auto result = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (result.ptr != port.data() + port.size()) endpoint.port = 0;
  }
  if (endpoint.host.empty() || endpoint.port < 1 || endpoint.port > 65535) {
    throw UserError("--rdzv-endpoint", "expected HOST:PORT of node 0, got '" + text + "'",
                    "for example --rdzv-endpoint node0:29500");
  }
  return endpoint;
}

void check(const LaunchOptions& options) {
  if (options.nproc_per_node < 1) throw UserError("--nproc-per-node", cat("expected 1 or more, got ", options.nproc_per_node));
  if (options.nnodes < 1) throw UserError("--nnodes", cat("expected 1 or more, got ", options.nnodes));
  if (options.node_rank < 0 || options.node_rank >= options.nnodes) {
    throw UserError("--node-rank", cat("expected 0 to ", options.nnodes - 1, ", got ", options.node_rank));
  }
  if (options.max_restarts < 0) throw UserError("--max-restarts", cat("expected 0 or more, got ", options.max_restarts));
  if (options.nnodes > 1 && options.rdzv_endpoint.empty()) {
    throw UserError("--rdzv-endpoint", "expected HOST:PORT of node 0 with --nnodes above 1, got nothing",
                    "for example --rdzv-endpoint node0:29500");
  }
  if (options.command.empty() || (options.command.front() != "train" && options.command.front() != "evaluate")) {
    throw UserError("launch",
                    "expected train or evaluate after the options, got " +
                        (options.command.empty() ? std::string("nothing") : "'" + options.command.front() + "'"),
                    "for example: oumi-cpp launch --nproc-per-node 2 train -c config.yaml");
  }
}

// Cores that this process may use, by affinity and control group.
std::int64_t usable_cores() {
  cpu_set_t usable;
  CPU_ZERO(&usable);
  std::int64_t count = ::sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
  std::ifstream quota("/sys/fs/cgroup/cpu.max");
  double allowed = 0, period = 0;
  if (quota >> allowed >> period && allowed > 0 && period > 0)
    count = std::min(count, static_cast<std::int64_t>(allowed / period + 0.5));
  return std::max<std::int64_t>(count, 1);
}

std::string own_executable() {
  char path[PATH_MAX];
  const ssize_t size = ::readlink("/proc/self/exe", path, sizeof path);
  if (size <= 0 || size == static_cast<ssize_t>(sizeof path))
    throw EnvironmentError("launch", "cannot find its own executable in /proc/self/exe");
  return {path, static_cast<std::size_t>(size)};
}

std::string host_name() {
  char name[256] = "this host";
  ::gethostname(name, sizeof name - 1);
  return name;
}

// The command of a later attempt: goes on from the newest whole checkpoint, or from the beginning when there is none yet.
std::vector<std::string> restart_command(std::vector<std::string> command) {
  const auto gone = std::remove(command.begin(), command.end(), "--overwrite");
  command.erase(gone, command.end());
  command.emplace_back("--training.try_resume_from_last_checkpoint=true");
  command.emplace_back("--training.overwrite_output_dir=false");
  return command;
}

struct Outcome {
  int exit_code = 0;
  const RankProcess* cause = nullptr;  // the rank to blame; none when all is well or all were stopped by a signal
};

// One attempt: starts the ranks, forwards output and signals, and waits for all of them to end.
class Attempt {
 public:
  // `link`: to the launchers of other machines, or nullptr.
  Attempt(const LaunchOptions& options, const std::vector<std::string>& command, std::int64_t number, const Endpoint& master,
          NodeLink* link)
      : link_(link) {
    const std::string executable = own_executable();
    const std::int64_t threads = std::max<std::int64_t>(1, usable_cores() / options.nproc_per_node);
    for (std::int64_t local = 0; local < options.nproc_per_node; ++local) {
      const std::int64_t rank = options.node_rank * options.nproc_per_node + local;
      Environment environment{{"RANK", cat(rank)},
                              {"WORLD_SIZE", cat(options.nnodes * options.nproc_per_node)},
                              {"LOCAL_RANK", cat(local)},
                              {"LOCAL_WORLD_SIZE", cat(options.nproc_per_node)},
                              {"GROUP_RANK", cat(options.node_rank)},
                              {"MASTER_ADDR", master.host},
                              {"MASTER_PORT", cat(master.port)},
                              {"OUMI_RESTART_COUNT", cat(number)}};
      if (std::getenv("OMP_NUM_THREADS") == nullptr) environment.emplace_back("OMP_NUM_THREADS", cat(threads));
      ranks_.emplace_back(rank, executable, command, environment);
    }
  }

  Outcome wait() {
    while (step()) {
    }
    return outcome();
  }

 private:
  // False when all have ended.
  bool step() {
    std::vector<pollfd> descriptors;
    std::vector<RankProcess*> owners;
    for (RankProcess& rank : ranks_) {
      for (const int descriptor : {rank.out(), rank.err()}) {
        if (descriptor < 0) continue;
        descriptors.push_back({descriptor, POLLIN, 0});
        owners.push_back(&rank);
      }
    }
    ::poll(descriptors.data(), descriptors.size(), static_cast<int>(kPoll.count()));
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      if (descriptors[i].revents != 0) owners[i]->forward_output(descriptors[i].fd);
    }
    hand_on_signals();
    if (link_ != nullptr) link_->poll();
    bool running = false;
    for (RankProcess& rank : ranks_) {
      const bool was_running = rank.running();
      if (!rank.reap()) {
        running = true;
      } else if (was_running) {
        note_end(rank);
      }
    }
    if (running) stop_others();
    return running;
  }

  void hand_on_signals() {
    const int count = received_count;
    if (count == handed_on_) return;
    handed_on_ = count;
    const int signal = received_signal == SIGINT ? SIGINT : SIGTERM;
    std::cerr << "oumi-cpp launch: handing signal " << received_signal << " on to " << ranks_.size() << " ranks\n";
    for (const RankProcess& rank : ranks_) rank.kill(signal);
  }

  // The exit code of a rank that ended because it was asked to, or 0. One that was still starting ends by the signal itself.
  static int stop_code(const RankProcess& rank) {
    if (rank.signal() == 0) return rank.exit_code() == 128 + SIGTERM || rank.exit_code() == 128 + SIGINT ? rank.exit_code() : 0;
    return received_count > 0 && (rank.signal() == SIGTERM || rank.signal() == SIGINT) ? 128 + rank.signal() : 0;
  }

  void note_end(const RankProcess& rank) {
    if (rank.exit_code() == 0 || stop_code(rank) != 0) return;
    if (cause_ == nullptr) {
      cause_ = &rank;
      failed_at_ = Clock::now();
    } else if (!terminated_ && cause_->signal() == 0 && cause_->exit_code() == 3 &&
               (rank.exit_code() != 3 || rank.signal() != 0)) {
      cause_ = &rank;  // the first one to end had only lost a peer: this one
    } else if (cause_->echoes_another() && !rank.echoes_another() && rank.exit_code() == cause_->exit_code()) {
      cause_ = &rank;
    }
  }

  void stop_others() {
    const bool elsewhere = link_ != nullptr && !link_->stop_reason().empty();
    if (cause_ == nullptr && !elsewhere) return;
    const bool may_be_a_victim = cause_ != nullptr && cause_->signal() == 0 && cause_->exit_code() == 3;
    if (!terminated_ && (elsewhere || !may_be_a_victim || Clock::now() - failed_at_ > kCauseWait)) {
      for (const RankProcess& rank : ranks_) rank.kill(SIGTERM);
      terminated_ = true;
      terminated_at_ = Clock::now();
    }
    if (terminated_ && !killed_ && Clock::now() - terminated_at_ > kGrace) {
      for (const RankProcess& rank : ranks_) rank.kill(SIGKILL);
      killed_ = true;
    }
  }

  Outcome outcome() const {
    if (cause_ != nullptr) return {cause_->exit_code(), cause_};
    for (const RankProcess& rank : ranks_) {
      if (const int code = stop_code(rank); code != 0) return {code, nullptr};
    }
    return {};
  }

  std::vector<RankProcess> ranks_;
  const RankProcess* cause_ = nullptr;
  Clock::time_point failed_at_, terminated_at_;
  NodeLink* link_;
  bool terminated_ = false, killed_ = false;
  int handed_on_ = received_count;
};

}  // namespace

namespace {

std::string describe_cause(const RankProcess& cause) {
  return cat("rank ", cause.rank(), " on ", host_name(), " failed: ", cause.how_it_ended());
}

void announce_restart(const LaunchOptions& options, const std::string& failure, std::int64_t number) {
  std::cerr << "oumi-cpp launch: " << failure << "; restart " << number << " of " << options.max_restarts
            << " from the last good checkpoint\n";
}

int launch_here(const LaunchOptions& options) {
  std::vector<std::string> command = options.command;
  for (std::int64_t number = 0;; ++number) {
    Attempt attempt(options, command, number, {"127.0.0.1", free_port()}, nullptr);
    const Outcome outcome = attempt.wait();
    if (outcome.cause == nullptr) return outcome.exit_code;
    const std::string failure = describe_cause(*outcome.cause);
    const bool again =
        number < options.max_restarts && outcome.exit_code != static_cast<int>(ExitCode::kUser) && received_count == 0;
    if (!again) {
      std::cerr << "error: [launch] " << failure << '\n';
      return outcome.exit_code;
    }
    announce_restart(options, failure, number + 1);
    command = restart_command(options.command);
  }
}

int launch_on_nodes(const LaunchOptions& options) {
  const Endpoint endpoint = parse_endpoint(options.rdzv_endpoint);
  NodeLinkOptions link_options{.nnodes = options.nnodes,
                               .node_rank = options.node_rank,
                               .host = endpoint.host,
                               .port = endpoint.port,
                               .max_restarts = options.max_restarts};
  if (const char* seconds = std::getenv("OUMI_JOIN_TIMEOUT"))
    link_options.join_timeout = std::chrono::seconds(std::atoll(seconds));
  const std::unique_ptr<NodeLink> link = make_node_link(link_options);
  std::vector<std::string> command = options.command;
  while (true) {
    const NodeLink::Start start = link->begin();
    Attempt attempt(options, command, start.attempt, {endpoint.host, start.master_port}, link.get());
    const Outcome outcome = attempt.wait();
    if (outcome.cause != nullptr) link->report_failure(outcome.exit_code, describe_cause(*outcome.cause));
    const NodeLink::Verdict verdict = link->end(outcome.exit_code, received_count == 0);
    if (!verdict.again) {
      if (!verdict.text.empty()) std::cerr << "error: [launch] " << verdict.text << '\n';
      return verdict.exit_code;
    }
    announce_restart(options, verdict.text, start.attempt + 1);
    command = restart_command(options.command);
  }
}

}  // namespace

int launch(const LaunchOptions& options) {
  check(options);
  const SignalScope signals;
  return options.nnodes > 1 ? launch_on_nodes(options) : launch_here(options);
}

}  // namespace oumi::cli
