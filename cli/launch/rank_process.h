// One rank: a child process, its output, and how it ended.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace oumi::cli {

using Environment = std::vector<std::pair<std::string, std::string>>;  // variables set on top of ours

class RankProcess {
 public:
  // Starts `executable` with `arguments`. Throws EnvironmentError.
  RankProcess(std::int64_t rank, const std::string& executable, const std::vector<std::string>& arguments,
              const Environment& environment);
  ~RankProcess();
  RankProcess(RankProcess&& other) noexcept;
  RankProcess& operator=(RankProcess&&) = delete;

  std::int64_t rank() const noexcept { return rank_; }
  int out() const noexcept { return out_; }  // -1 once closed
  int err() const noexcept { return err_; }

  // Copies what has come to our own stdout and stderr, whole lines with a prefix. Call when poll() says there is something.
  void forward_output(int descriptor);
  // Looks whether it has ended. False while it runs.
  bool reap();
  bool running() const noexcept { return pid_ > 0; }
  void kill(int signal) const noexcept;

  // Of an ended one: its exit code; 1 for a crash, 3 for a kill by another signal (out of memory, an operator).
  int exit_code() const noexcept { return exit_code_; }
  int signal() const noexcept { return signal_; }  // that ended it; 0: it exited
  // Whether its error is another rank's, told to it.
  bool echoes_another() const { return last_error_.find(" (on rank ") != std::string::npos; }
  // "exit code 2: error: [data] ...", "killed by signal 9".
  std::string how_it_ended() const;

 private:
  struct Stream {
    std::string partial;
  };
  void print_lines(Stream& stream, bool to_error, bool all);

  std::int64_t rank_;
  pid_t pid_ = -1;
  int out_ = -1, err_ = -1;
  Stream out_stream_, err_stream_;
  std::string last_error_;
  int exit_code_ = -1, signal_ = 0;
};

}  // namespace oumi::cli
