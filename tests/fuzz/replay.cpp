// Mutations of the seeds, the same ones every time: what `make test` runs in place of a fuzzer.
//   fuzz_replay [TARGET [ROUND]]     all targets, one of them, or one input of one (written to fuzz_input and run)
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/fuzz/targets.h"

namespace oumi::fuzz {
namespace {

constexpr int kRounds = 1500;

// SplitMix64 (Steele, Lea, Flood 2014): equal numbers everywhere, unlike the standard library's distributions.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(next() % bound); }

 private:
  std::uint64_t state_;
};

// Bytes that parsers stumble over: signs, ends, brackets, the edges of numbers.
constexpr const char* kTokens[] = {"-1",
                                   "18446744073709551615",
                                   "9223372036854775807",
                                   "1e999",
                                   "null",
                                   "{",
                                   "}",
                                   "[",
                                   "]",
                                   ":",
                                   "\"",
                                   "\n",
                                   "\xff",
                                   "\xc3",
                                   "\\",
                                   "[:%]",
                                   "&a ",
                                   "*a",
                                   "!!str ",
                                   "---\n",
                                   "\t",
                                   "'",
                                   ",,",
                                   "nan"};

std::string mutated(std::string bytes, Random& random) {
  const std::size_t changes = 1 + random.below(4);
  for (std::size_t i = 0; i < changes; ++i) {
    const std::size_t at = random.below(bytes.size() + 1);
    switch (random.below(8)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(random.next());
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
        break;
      case 2: bytes.resize(at); break;
      case 3: bytes.erase(at, random.below(16)); break;
      case 4: bytes.insert(at, kTokens[random.below(std::size(kTokens))]); break;
      case 5: bytes.insert(at, bytes.substr(random.below(bytes.size() + 1), random.below(32))); break;
      case 6:
        for (std::size_t k = at; k < bytes.size() && k < at + 8; ++k)
          bytes[k] = static_cast<char>(random.below(2) == 0 ? 0 : 0xff);
        break;
      case 7: bytes.append(random.below(64), static_cast<char>(random.next())); break;
    }
  }
  return bytes;
}

std::string input_of(const Target& target, int round) {
  const std::vector<std::string> seeds = target.seeds();
  const auto seed = static_cast<std::size_t>(round) % seeds.size();
  if (static_cast<std::size_t>(round) < seeds.size()) return seeds[seed];  // the seeds themselves come first
  Random random(static_cast<std::uint64_t>(round) * 1000003u);
  return mutated(seeds[seed], random);
}

volatile std::sig_atomic_t current_round = -1;

// Says which input crashed, then crashes as before.
void on_crash(int signal) {
  std::signal(signal, SIG_DFL);
  std::fprintf(stderr, "signal %d in round %d\n", signal,
               static_cast<int>(current_round));  // not async-safe, but the last thing
  std::raise(signal);
}

bool replay(const Target& target) {
  const std::vector<std::string> seeds = target.seeds();
  for (const std::string& seed : seeds) {
    try {
      target.parse(seed);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s: a seed is refused: %s\n", target.name, error.what());
      return false;
    }
  }
  int failures = 0;
  for (int round = 0; round < kRounds; ++round) {
    current_round = round;
    const std::string failure = run(target, input_of(target, round));
    if (failure.empty()) continue;
    if (++failures <= 3) std::fprintf(stderr, "%s round %d: %s\n", target.name, round, failure.c_str());
  }
  std::printf("%s: %d inputs, %d failures\n", target.name, kRounds, failures);
  return failures == 0;
}

int main_of(int argc, char** argv) {
  for (const int signal : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS}) std::signal(signal, on_crash);
  bool good = true;
  for (const Target& target : targets()) {
    if (argc > 1 && std::string(argv[1]) != target.name) continue;
    if (argc > 2) {
      const std::string input = input_of(target, std::atoi(argv[2]));
      FILE* file = std::fopen("fuzz_input", "wb");
      if (file != nullptr) {
        std::fwrite(input.data(), 1, input.size(), file);
        std::fclose(file);
      }
      const std::string failure = run(target, input);
      std::printf("%s\n", failure.empty() ? "fine" : failure.c_str());
      return failure.empty() ? 0 : 1;
    }
    std::printf("%s ...\n", target.name);  // the last line when an input crashes
    std::fflush(stdout);
    good = replay(target) && good;
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace oumi::fuzz

int main(int argc, char** argv) { return oumi::fuzz::main_of(argc, argv); }
