// What a kill, a failing disk or a full one does to a save. The saver runs in a child process under ptrace, which stops it at
// every system call that changes the disk: at the k-th the child is killed, or the call fails with a chosen error.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <random>
#include <set>

#include "oumi/base/strings.h"
#include "oumi/checkpoint/checkpoint_writer.h"
#include "oumi/checkpoint/resume_search.h"
#include "oumi/checkpoint/rotation.h"
#include "oumi/checkpoint/test_support.h"

namespace oumi {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kDone = 0, kEnvironmentExit = 3, kOtherExit = 9;

void save(const fs::path& out, std::int64_t step, std::int64_t size = 64) {
  CheckpointWriter writer(out, step);
  writer.add_weights({{"w", at::full({size}, static_cast<float>(step))}, {"b", at::full({3}, 1.0)}});
  writer.add_state("optimizer.safetensors", {{"w.exp_avg", at::full({size}, static_cast<float>(step))}});
  writer.add_json("trainer_state.json", {{"global_step", step}});
  writer.commit();
}

// Runs `action` in a child; its exit code tells how it ended. An EnvironmentError counts when it names a path below `out`.
template <class F>
pid_t start_child(const fs::path& out, bool traced, F&& action) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  if (traced) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(77);
    ::raise(SIGSTOP);
  }
  int code = kOtherExit;
  try {
    action();
    code = kDone;
  } catch (const EnvironmentError& error) {
    if (error.component().starts_with(out.string()) && !error.message().empty()) code = kEnvironmentExit;
  } catch (...) {
  }
  ::_exit(code);
}

// The file stays readable and a resume finds something; whatever is found holds what it claims to.
void expect_sound(const fs::path& out, std::size_t least, std::int64_t least_step, const std::string& when) {
  std::size_t whole = 0;
  for (const auto& folder : list_checkpoints(out)) {
    const VerifyReport report = verify_checkpoint(folder.path);
    EXPECT_TRUE(report.ok()) << when << ": " << folder.path << " carries a valid name and is not whole: " << report.summary();
    if (report.ok()) {
      ++whole;
      EXPECT_EQ(load_safetensors(folder.path / "model.safetensors").at("w")[0].item<float>(), static_cast<float>(folder.step))
          << when;
    }
  }
  EXPECT_GE(whole, least) << when;
  const ResumeSearch search = find_resume_checkpoint(out);
  EXPECT_TRUE(search.checkpoint && search.step >= least_step) << when;
}

#if defined(__x86_64__)

bool changes_the_disk(const user_regs_struct& registers) {
  switch (registers.orig_rax) {
    case SYS_write:
    case SYS_pwrite64:
    case SYS_writev:
    case SYS_fsync:
    case SYS_fdatasync:
    case SYS_rename:
    case SYS_renameat:
    case SYS_renameat2:
    case SYS_unlink:
    case SYS_unlinkat:
    case SYS_rmdir:
    case SYS_mkdir:
    case SYS_mkdirat:
    case SYS_ftruncate:
    case SYS_fallocate: return true;
    case SYS_open: return (registers.rsi & O_CREAT) != 0;
    case SYS_openat: return (registers.rdx & O_CREAT) != 0;
    default: return false;
  }
}

bool removes(const user_regs_struct& registers) {
  return registers.orig_rax == SYS_unlink || registers.orig_rax == SYS_unlinkat || registers.orig_rax == SYS_rmdir;
}

struct Fault {
  int at = 0;     // the number of the system call, from 0
  int error = 0;  // 0: kill
};

struct Outcome {
  bool reached = false;  // the k-th call came
  bool removal = false;  // it was one that removes
  int exit_code = -1;    // -1: killed
};

using Observer = std::function<void(const user_regs_struct&)>;

// False where the system forbids tracing. `observe` sees every call that changes the disk before it takes place.
bool run_traced(pid_t child, const Fault& fault, Outcome& outcome, const Observer& observe = {}) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return false;
  if (::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) != 0) return false;
  int count = 0;
  bool entering = true, inject = false;
  int signal = 0;
  while (true) {
    if (::ptrace(PTRACE_SYSCALL, child, nullptr, signal) != 0) return false;
    signal = 0;
    if (::waitpid(child, &status, 0) != child) return false;
    if (WIFEXITED(status)) {
      outcome.exit_code = WEXITSTATUS(status);
      return outcome.exit_code != 77;
    }
    if (WIFSIGNALED(status)) return true;
    if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
      signal = WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
      continue;
    }
    user_regs_struct registers{};
    if (::ptrace(PTRACE_GETREGS, child, nullptr, &registers) != 0) return false;
    if (entering && observe && changes_the_disk(registers)) observe(registers);
    if (entering && changes_the_disk(registers) && count++ == fault.at) {
      outcome.reached = true;
      outcome.removal = removes(registers);
      registers.orig_rax = ~0ull;  // the call does not take place
      ::ptrace(PTRACE_SETREGS, child, nullptr, &registers);
      if (fault.error == 0) {
        ::kill(child, SIGKILL);
        return ::waitpid(child, &status, 0) == child;
      }
      inject = true;
    } else if (!entering && inject) {
      inject = false;
      registers.rax = static_cast<unsigned long long>(-static_cast<long long>(fault.error));
      ::ptrace(PTRACE_SETREGS, child, nullptr, &registers);
    }
    entering = !entering;
  }
}

// What a power cut may undo: bytes that were written and not fsynced, names that were given in a folder that was not fsynced.
// Follows the calls of a saver and holds them to the order that makes any cut harmless.
class UnsyncedState {
 public:
  UnsyncedState(pid_t child, fs::path out) : child_(child), out_(std::move(out)) {}

  void operator()(const user_regs_struct& registers) {
    switch (registers.orig_rax) {
      case SYS_write:
      case SYS_pwrite64:
      case SYS_writev:
      case SYS_ftruncate: written(path_of(registers.rdi)); break;
      case SYS_fsync:
      case SYS_fdatasync: unsynced_.erase(path_of(registers.rdi)); break;
      case SYS_open:
      case SYS_mkdir: named(text_at(registers.rdi)); break;
      case SYS_openat:
      case SYS_mkdirat: named(text_at(registers.rsi)); break;
      case SYS_rename: renamed(text_at(registers.rdi), text_at(registers.rsi)); break;
      case SYS_renameat:
      case SYS_renameat2: renamed(text_at(registers.rsi), text_at(registers.r10)); break;
      case SYS_unlink:
      case SYS_unlinkat:
      case SYS_rmdir:
        ++removals;
        EXPECT_FALSE(unsynced_.contains(out_)) << "something is deleted while a newer name may still get lost";
        break;
      default: break;
    }
  }

  int published = 0, removals = 0;

 private:
  fs::path path_of(unsigned long long descriptor) const {
    std::error_code ignored;
    return fs::read_symlink(fs::path("/proc") / std::to_string(child_) / "fd" / std::to_string(descriptor), ignored);
  }
  fs::path text_at(unsigned long long address) const {
    std::ifstream memory("/proc/" + std::to_string(child_) + "/mem", std::ios::binary);
    std::string text;
    memory.seekg(static_cast<std::streamoff>(address));
    std::getline(memory, text, '\0');
    return text;
  }
  bool is_ours(const fs::path& path) const { return path.string().starts_with(out_.string()); }
  void written(const fs::path& path) {
    if (is_ours(path)) unsynced_.insert(path);
  }
  void named(const fs::path& path) {
    if (is_ours(path) && path != out_) unsynced_.insert(path.parent_path());
  }
  void renamed(const fs::path& from, const fs::path& to) {
    if (!is_ours(from)) return;
    for (const fs::path& path : unsynced_) {
      const bool part = path == from || path.string().starts_with(from.string() + "/");
      EXPECT_FALSE(part) << path << " may still get lost when " << from << " becomes " << to;
    }
    if (checkpoint_step(to)) ++published;
    // Away from a name that counts: only once what takes its place is sure to stay.
    if (checkpoint_step(from)) {
      EXPECT_FALSE(unsynced_.contains(out_)) << from << " goes while a newer name may still get lost";
    }
    unsynced_.insert(from.parent_path());
    unsynced_.insert(to.parent_path());
  }

  pid_t child_;
  fs::path out_;
  std::set<fs::path> unsynced_;
};

class TracedSave : public testing::Test {
 protected:
  void fresh() {
    fs::remove_all(out_);
    save(out_, 1);
    save(out_, 2);
  }
  // Saves, then rotates as the trainer does.
  pid_t start(std::int64_t step) {
    return start_child(out_, true, [&] {
      save(out_, step);
      rotate_checkpoints(out_, {.save_total_limit = 2, .best_step = 1});
    });
  }

  TemporaryDirectory folder_;
  fs::path out_ = folder_.path() / "out";
};

TEST_F(TracedSave, KilledAtEverySystemCall) {
  for (const std::int64_t step : {3, 2}) {  // a new checkpoint with rotation, and one that replaces another
    int boundaries = 0;
    for (;; ++boundaries) {
      fresh();
      Outcome outcome;
      if (!run_traced(start(step), {.at = boundaries}, outcome)) GTEST_SKIP() << "tracing is not permitted here";
      const std::string when = cat("step ", step, ", killed at call ", boundaries);
      expect_sound(out_, 2, 2, when);
      EXPECT_TRUE(verify_checkpoint(out_ / "checkpoint-1").ok()) << when << ": the best checkpoint";
      clean_stale_checkpoints(out_);
      for (const auto& entry : fs::directory_iterator(out_))
        EXPECT_TRUE(checkpoint_step(entry.path())) << when << " left " << entry.path();
      expect_sound(out_, 2, 2, when + ", cleaned");
      save(out_, step);  // and the run goes on
      expect_sound(out_, 2, step, when + ", saved again");
      if (!outcome.reached) {
        EXPECT_EQ(outcome.exit_code, kDone);
        break;
      }
    }
    EXPECT_GT(boundaries, 30);
    EXPECT_LT(boundaries, 500);
  }
}

TEST_F(TracedSave, NothingCountsBeforeItIsSurelyOnTheDisk) {
  for (const std::int64_t step : {3, 2}) {
    fresh();
    const pid_t child = start(step);
    UnsyncedState state(child, out_);
    Outcome outcome;
    if (!run_traced(child, {.at = -1}, outcome, std::ref(state))) GTEST_SKIP() << "tracing is not permitted here";
    EXPECT_EQ(outcome.exit_code, kDone);
    EXPECT_EQ(state.published, 1);
    EXPECT_GT(state.removals, 0);
  }
}

TEST_F(TracedSave, ErrorsAtEverySystemCall) {
  for (const int error : {ENOSPC, EIO, EROFS}) {
    int failed = 0;
    for (int at = 0;; ++at) {
      fresh();
      Outcome outcome;
      if (!run_traced(start(3), {.at = at, .error = error}, outcome)) GTEST_SKIP() << "tracing is not permitted here";
      const std::string when = cat(std::strerror(error), " at call ", at);
      if (!outcome.reached) break;
      expect_sound(out_, 2, 2, when);
      EXPECT_TRUE(verify_checkpoint(out_ / "checkpoint-1").ok()) << when << ": the best checkpoint";
      // The save failed with an error that names the file, or the fault hit what may fail: reserving space, and deleting.
      EXPECT_TRUE(outcome.exit_code == kEnvironmentExit || outcome.exit_code == kDone)
          << when << ": exit " << outcome.exit_code;
      if (outcome.exit_code == kEnvironmentExit) {
        ++failed;
        for (const auto& entry : fs::directory_iterator(out_))
          EXPECT_TRUE(checkpoint_step(entry.path())) << when << " left " << entry.path();
      } else {
        EXPECT_EQ(find_resume_checkpoint(out_).step, 3) << when;
      }
    }
    EXPECT_GT(failed, 20);
  }
}

#endif

TEST(Save, KilledAtRandomTimes) {
  const TemporaryDirectory folder;
  const fs::path out = folder.path() / "out";
  std::mt19937 random(1);
  save(out, 1);
  int killed = 0;
  for (int round = 0; round < 40; ++round) {
    const pid_t child = start_child(out, false, [&] {
      save(out, 2, 200000);
      rotate_checkpoints(out, {.save_total_limit = 1});
    });
    ::usleep(random() % 8000);
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    killed += WIFSIGNALED(status);
    expect_sound(out, 1, 1, cat("round ", round));
    clean_stale_checkpoints(out);
    fs::remove_all(out);
    save(out, 1);
  }
  EXPECT_GT(killed, 0);
}

// A real limit instead of an injected one: the file-size limit of the process.
TEST(Save, AFileThatMayNotGrow) {
  const TemporaryDirectory folder;
  const fs::path out = folder.path() / "out";
  save(out, 1);
  const pid_t child = start_child(out, false, [&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{100000, 100000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    save(out, 2, 100000);
  });
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), kEnvironmentExit);
  expect_sound(out, 1, 1, "file size limit");
  EXPECT_EQ(std::distance(fs::directory_iterator(out), fs::directory_iterator()), 1);
}

// A real full disk, where mounting one is permitted.
TEST(Save, AFullDisk) {
  const TemporaryDirectory folder;
  const fs::path disk = folder.path() / "disk";
  fs::create_directory(disk);
  if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=1m") != 0) GTEST_SKIP() << "mounting is not permitted here";
  const fs::path out = disk / "out";
  std::string message;
  try {
    save(out, 1, 50000);
    save(out, 2, 200000);
  } catch (const EnvironmentError& error) {
    message = describe(error);
  }
  EXPECT_THAT(message, HasSubstr("out/checkpoint-2.tmp-"));
  EXPECT_THAT(message, HasSubstr("No space left on device"));
  EXPECT_THAT(message, HasSubstr("hint: free some space"));
  expect_sound(out, 1, 1, "full disk");
  EXPECT_EQ(std::distance(fs::directory_iterator(out), fs::directory_iterator()), 1);
  ASSERT_EQ(::umount(disk.c_str()), 0);
}

}  // namespace
}  // namespace oumi
