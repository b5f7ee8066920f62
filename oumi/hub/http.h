// The few HTTP requests that the Hub needs, over libcurl. Redirects are followed here and not by the library, so that the token
// goes to the endpoint alone: never to the storage host that a download is redirected to.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace oumi {

// No answer, or not all of it: name lookup, connection, TLS, timeout, a connection that was cut.
class TransferFailure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct HttpOptions {
  std::string endpoint = {};    // scheme://host[:port] that may see the token
  std::string token = {};       // empty: no Authorization header
  double connect_timeout = 10;  // seconds
  double stall_timeout = 10;    // seconds without a byte
  std::string ca_bundle = {};
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;         // names in lower case
  std::string body;                                   // empty where the body went to a sink
  std::string header(const std::string& name) const;  // "" when absent
};

// One connection at a time, kept alive between requests. Not thread-safe.
class HttpClient {
 public:
  explicit HttpClient(HttpOptions options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // The whole body, at most 64 MiB. Throws TransferFailure. Any status is an answer.
  HttpResponse get(const std::string& url);

  // Headers alone. Follows redirects within the origin; one that leads elsewhere, or that describes the file it leads to
  // (x-linked-etag), is the answer.
  HttpResponse head(const std::string& url);

  // Takes the body's next bytes; the response holds status and headers by then. What it throws passes through download().
  using Sink = std::function<void(const HttpResponse&, std::string_view)>;

  // The body from byte `offset` on, handed to `sink` when the status is 200 (whole file) or 206 (the part).
  HttpResponse download(const std::string& url, std::uint64_t offset, const Sink& sink);

 private:
  struct Handle;
  struct Request;
  HttpResponse follow(std::string url, const Request& request);
  HttpResponse perform(const std::string& url, const Request& request);

  HttpOptions options_;
  std::unique_ptr<Handle> handle_;
};

// "https://host:443" of a URL: scheme, host and port in lower case, default ports written out.
std::string url_origin(const std::string& url);

// Percent-encodes everything but letters, digits, "-._~" and the characters of `keep`.
std::string url_encode(std::string_view text, std::string_view keep = "");

}  // namespace oumi
