// A TCP connection that carries lines. No LibTorch here.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

namespace oumi::cli {

class LineSocket {
 public:
  using Clock = std::chrono::steady_clock;

  explicit LineSocket(int descriptor);
  ~LineSocket();
  LineSocket(const LineSocket&) = delete;
  LineSocket& operator=(const LineSocket&) = delete;

  // One attempt; nullptr-like (nullopt) when nobody listens.
  static std::optional<int> connect_to(const std::string& host, std::int64_t port);
  // Listens on all addresses. Throws EnvironmentError.
  static int listen_at(std::int64_t port);

  bool open() const noexcept { return descriptor_ >= 0; }
  // Reads what is there; pings; closes after 15 s of silence or on an error.
  void poll();
  void send(const std::string& line);
  std::optional<std::string> next();
  void close() noexcept;

 private:
  int descriptor_;
  std::string partial_;
  std::deque<std::string> lines_;
  Clock::time_point heard_ = Clock::now(), pinged_ = Clock::now();
};

}  // namespace oumi::cli
