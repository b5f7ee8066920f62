#include "cli/launch/line_socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi::cli {
namespace {

constexpr auto kPing = std::chrono::seconds(2);

// A machine that is silent for this long is lost.
std::chrono::seconds silence_limit() {
  static const std::chrono::seconds limit = [] {
    const char* text = std::getenv("OUMI_LINK_TIMEOUT");
    const long value = text == nullptr ? 0 : std::atol(text);
    return std::chrono::seconds(value > 0 ? value : 15);
  }();
  return limit;
}
constexpr std::size_t kLongest = 65536;  // of a line: more is no launcher of ours

}  // namespace

LineSocket::LineSocket(int descriptor) : descriptor_(descriptor) {
  ::fcntl(descriptor_, F_SETFL, O_NONBLOCK);
  ::fcntl(descriptor_, F_SETFD, FD_CLOEXEC);
  const int on = 1;
  ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

LineSocket::~LineSocket() { close(); }

void LineSocket::close() noexcept {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

std::optional<int> LineSocket::connect_to(const std::string& host, std::int64_t port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return std::nullopt;
  std::optional<int> result;
  for (const addrinfo* address = found; address != nullptr && !result; address = address->ai_next) {
    const int descriptor = ::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) continue;
    int failure = ::connect(descriptor, address->ai_addr, address->ai_addrlen) == 0 ? 0 : errno;
    if (failure == EINPROGRESS) {
      pollfd wait{descriptor, POLLOUT, 0};
      socklen_t size = sizeof failure;
      if (::poll(&wait, 1, 2000) != 1 || ::getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &failure, &size) != 0)
        failure = ETIMEDOUT;
    }
    if (failure == 0) {
      result = descriptor;
    } else {
      ::close(descriptor);
    }
  }
  ::freeaddrinfo(found);
  return result;
}

int LineSocket::listen_at(std::int64_t port) {
  const int descriptor = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1, off = 0;
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_any;
  address.sin6_port = htons(static_cast<std::uint16_t>(port));
  const bool listening = descriptor >= 0 && ::setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                         ::setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0 &&
                         ::bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
                         ::listen(descriptor, 64) == 0;
  if (!listening) {
    const std::string reason = std::strerror(errno);
    if (descriptor >= 0) ::close(descriptor);
    throw EnvironmentError("--rdzv-endpoint", cat("cannot listen at port ", port, ": ", reason), "choose a free port");
  }
  return descriptor;
}

void LineSocket::poll() {
  if (!open()) return;
  char buffer[4096];
  while (true) {
    const ssize_t count = ::recv(descriptor_, buffer, sizeof buffer, 0);
    if (count > 0) {
      heard_ = Clock::now();
      partial_.append(buffer, static_cast<std::size_t>(count));
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) close();
    break;
  }
  for (auto end = partial_.find('\n'); end != std::string::npos; end = partial_.find('\n')) {
    if (const std::string line = partial_.substr(0, end); line != "ping") lines_.push_back(line);
    partial_.erase(0, end + 1);
  }
  if (!open()) return;
  if (Clock::now() - heard_ > silence_limit() || partial_.size() > kLongest) {
    close();
  } else if (Clock::now() - pinged_ > kPing) {
    pinged_ = Clock::now();
    send("ping");
  }
}

void LineSocket::send(const std::string& line) {
  if (!open()) return;
  std::string text = line;
  for (char& c : text) c = c == '\n' ? ' ' : c;
  text += '\n';
  // Lines are short: they fit into the socket's buffer unless the other side has stopped reading for good.
  if (::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) close();
}

std::optional<std::string> LineSocket::next() {
  if (lines_.empty()) return std::nullopt;
  std::string line = std::move(lines_.front());
  lines_.pop_front();
  return line;
}

}  // namespace oumi::cli
