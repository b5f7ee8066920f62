#include "cli/launch/rank_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

extern char** environ;

namespace oumi::cli {
namespace {

void close_descriptor(int& descriptor) {
  if (descriptor >= 0) ::close(descriptor);
  descriptor = -1;
}

// Our environment with `changes` over it.
std::vector<std::string> merged_environment(const Environment& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    bool replaced = false;
    for (const auto& [name, value] : changes) replaced = replaced || std::string_view(*entry).starts_with(name + "=");
    if (!replaced) result.emplace_back(*entry);
  }
  for (const auto& [name, value] : changes) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

RankProcess::RankProcess(std::int64_t rank, const std::string& executable, const std::vector<std::string>& arguments,
                         const Environment& environment)
    : rank_(rank) {
  // All memory is taken before fork: between it and exec only async-signal-safe calls are allowed.
  std::vector<std::string> argv_texts{executable};
  argv_texts.insert(argv_texts.end(), arguments.begin(), arguments.end());
  std::vector<std::string> env_texts = merged_environment(environment);
  std::vector<char*> argv = pointers(argv_texts), env = pointers(env_texts);
  int out[2], err[2];
  if (::pipe2(out, O_CLOEXEC) != 0) throw EnvironmentError("launch", cat("cannot make a pipe: ", std::strerror(errno)));
  if (::pipe2(err, O_CLOEXEC) != 0) {
    ::close(out[0]), ::close(out[1]);
    throw EnvironmentError("launch", cat("cannot make a pipe: ", std::strerror(errno)));
  }
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    // A group of its own: Ctrl-C reaches the launcher alone, which hands it on once.
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(3);
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    const int nothing = ::open("/dev/null", O_RDONLY);
    if (nothing >= 0) ::dup2(nothing, STDIN_FILENO);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(executable.c_str(), argv.data(), env.data());
    ::_exit(3);
  }
  ::close(out[1]);
  ::close(err[1]);
  out_ = out[0];
  err_ = err[0];
  if (pid_ < 0) {
    close_descriptor(out_);
    close_descriptor(err_);
    throw EnvironmentError("launch", cat("cannot start rank ", rank, ": ", std::strerror(errno)),
                           "is the number of processes limited (ulimit -u)?");
  }
  for (const int descriptor : {out_, err_}) ::fcntl(descriptor, F_SETFL, O_NONBLOCK);
}

RankProcess::RankProcess(RankProcess&& other) noexcept
    : rank_(other.rank_),
      pid_(std::exchange(other.pid_, -1)),
      out_(std::exchange(other.out_, -1)),
      err_(std::exchange(other.err_, -1)),
      out_stream_(std::move(other.out_stream_)),
      err_stream_(std::move(other.err_stream_)),
      last_error_(std::move(other.last_error_)),
      exit_code_(other.exit_code_),
      signal_(other.signal_) {}

RankProcess::~RankProcess() {
  if (running()) {
    kill(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  close_descriptor(out_);
  close_descriptor(err_);
}

void RankProcess::print_lines(Stream& stream, bool to_error, bool all) {
  std::FILE* file = to_error ? stderr : stdout;
  std::size_t begin = 0;
  while (begin < stream.partial.size()) {
    auto end = stream.partial.find('\n', begin);
    if (end == std::string::npos) {
      if (!all) break;
      end = stream.partial.size();
    }
    const std::string line = stream.partial.substr(begin, end - begin);
    if (to_error && line.starts_with("error: ")) last_error_ = line.substr(7);
    std::fprintf(file, "[rank %lld] %s\n", static_cast<long long>(rank_), line.c_str());
    begin = end + 1;
  }
  stream.partial.erase(0, std::min(begin, stream.partial.size()));
  std::fflush(file);
}

void RankProcess::forward_output(int descriptor) {
  const bool to_error = descriptor == err_;
  Stream& stream = to_error ? err_stream_ : out_stream_;
  char buffer[16384];
  while (true) {
    const ssize_t count = ::read(descriptor, buffer, sizeof buffer);
    if (count > 0) {
      stream.partial.append(buffer, static_cast<std::size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    const bool closed = count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    print_lines(stream, to_error, closed);
    if (closed) close_descriptor(to_error ? err_ : out_);
    return;
  }
}

bool RankProcess::reap() {
  if (!running()) return true;
  int status = 0;
  const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return false;
  pid_ = -1;
  if (WIFSIGNALED(status)) {
    signal_ = WTERMSIG(status);
    const bool crash = signal_ == SIGSEGV || signal_ == SIGABRT || signal_ == SIGBUS || signal_ == SIGILL || signal_ == SIGFPE;
    exit_code_ = crash ? 1 : 3;
  } else {
    exit_code_ = WEXITSTATUS(status);
  }
  // What is left in the pipes; another process may hold them open, so this does not wait for their end.
  if (out_ >= 0) forward_output(out_);
  if (err_ >= 0) forward_output(err_);
  return true;
}

void RankProcess::kill(int signal) const noexcept {
  if (running()) ::kill(pid_, signal);
}

std::string RankProcess::how_it_ended() const {
  if (signal_ != 0) return cat("killed by signal ", signal_, " (", ::strsignal(signal_), ")");
  return cat("exit code ", exit_code_, last_error_.empty() ? "" : ": " + last_error_);
}

}  // namespace oumi::cli
