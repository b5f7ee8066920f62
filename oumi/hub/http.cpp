#include "oumi/hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <cstdlib>
#include <exception>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/base/version.h"

namespace oumi {
namespace {

constexpr int kMaxRedirects = 10;
constexpr std::size_t kMaxBody = std::size_t{64} << 20;

bool is_redirect(int status) { return status == 301 || status == 302 || status == 303 || status == 307 || status == 308; }

// `location` may be absolute, or relative to `base`.
std::string resolve_url(const std::string& base, const std::string& location) {
  CURLU* url = curl_url();
  std::string result;
  if (curl_url_set(url, CURLUPART_URL, base.c_str(), 0) == CURLUE_OK &&
      curl_url_set(url, CURLUPART_URL, location.c_str(), 0) == CURLUE_OK) {
    char* text = nullptr;
    if (curl_url_get(url, CURLUPART_URL, &text, 0) == CURLUE_OK) {
      result = text;
      curl_free(text);
    }
  }
  curl_url_cleanup(url);
  return result;
}

}  // namespace

std::string HttpResponse::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

struct HttpClient::Handle {
  CURL* curl = nullptr;
};

struct HttpClient::Request {
  bool head = false;
  std::uint64_t offset = 0;
  const Sink* sink = nullptr;
};

namespace {

struct Transfer {
  HttpResponse response;
  const HttpClient::Sink* sink = nullptr;
  std::exception_ptr failure;  // exceptions must not pass through libcurl's C frames
  bool too_long = false;
};

std::size_t on_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(data, size * count);
  if (line.starts_with("HTTP/")) {  // also after "100 Continue": start again
    transfer.response.headers.clear();
    const auto space = line.find(' ');
    transfer.response.status = space == std::string_view::npos ? 0 : std::atoi(std::string(line.substr(space + 1, 3)).c_str());
  } else if (const auto colon = line.find(':'); colon != std::string_view::npos) {
    transfer.response.headers[to_lower(trim(line.substr(0, colon)))] = trim(line.substr(colon + 1));
  }
  return size * count;
}

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view bytes(data, size * count);
  const int status = transfer.response.status;
  if (transfer.sink != nullptr && (status == 200 || status == 206)) {
    try {
      (*transfer.sink)(transfer.response, bytes);
    } catch (...) {
      transfer.failure = std::current_exception();
      return 0;
    }
  } else if (transfer.response.body.size() + bytes.size() > kMaxBody) {
    transfer.too_long = true;
    return 0;
  } else {
    transfer.response.body += bytes;
  }
  return bytes.size();
}

}  // namespace

HttpClient::HttpClient(HttpOptions options) : options_(std::move(options)), handle_(std::make_unique<Handle>()) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  handle_->curl = started == CURLE_OK ? curl_easy_init() : nullptr;
  if (handle_->curl == nullptr) throw EnvironmentError("libcurl", "could not be started");
}

HttpClient::~HttpClient() { curl_easy_cleanup(handle_->curl); }

HttpResponse HttpClient::perform(const std::string& url, const Request& request) {
  CURL* curl = handle_->curl;
  curl_easy_reset(curl);  // options only; connections stay
  Transfer transfer;
  transfer.sink = request.sink;
  char message[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout * 1000));
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, std::max(1L, static_cast<long>(options_.stall_timeout)));
  curl_easy_setopt(curl, CURLOPT_USERAGENT, (std::string("oumi-cpp/") + kVersion).c_str());
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  if (!options_.ca_bundle.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, options_.ca_bundle.c_str());
  if (request.head) curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
  if (request.offset > 0) curl_easy_setopt(curl, CURLOPT_RANGE, (std::to_string(request.offset) + "-").c_str());
  // A compressed answer would change sizes and etags.
  curl_slist* headers = curl_slist_append(nullptr, "Accept-Encoding: identity");
  if (!options_.token.empty() && url_origin(url) == url_origin(options_.endpoint)) {
    headers = curl_slist_append(headers, ("Authorization: Bearer " + options_.token).c_str());
  }
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  const CURLcode code = curl_easy_perform(curl);
  curl_slist_free_all(headers);
  if (transfer.failure) std::rethrow_exception(transfer.failure);
  if (transfer.too_long) throw TransferFailure(url + ": the answer is longer than " + format_bytes(kMaxBody));
  if (code != CURLE_OK) throw TransferFailure(*message != '\0' ? message : curl_easy_strerror(code));
  return std::move(transfer.response);
}

HttpResponse HttpClient::follow(std::string url, const Request& request) {
  for (int redirects = 0; redirects <= kMaxRedirects; ++redirects) {
    HttpResponse response = perform(url, request);
    const std::string location = response.header("location");
    if (!is_redirect(response.status) || location.empty()) return response;
    if (request.head && !response.header("x-linked-etag").empty()) return response;
    std::string next = resolve_url(url, location);
    if (next.empty()) throw TransferFailure("redirected to '" + location + "', which is no address");
    if (request.head && url_origin(next) != url_origin(url)) return response;
    url = std::move(next);
  }
  throw TransferFailure(cat("redirected more than ", kMaxRedirects, " times"));
}

HttpResponse HttpClient::get(const std::string& url) { return follow(url, {}); }
HttpResponse HttpClient::head(const std::string& url) { return follow(url, {.head = true}); }
HttpResponse HttpClient::download(const std::string& url, std::uint64_t offset, const Sink& sink) {
  return follow(url, {.offset = offset, .sink = &sink});
}

std::string url_origin(const std::string& url) {
  CURLU* parsed = curl_url();
  std::string result;
  if (curl_url_set(parsed, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK) {
    constexpr std::pair<CURLUPart, const char*> kParts[] = {
        {CURLUPART_SCHEME, ""}, {CURLUPART_HOST, "://"}, {CURLUPART_PORT, ":"}};
    for (const auto& [part, before] : kParts) {
      char* text = nullptr;
      if (curl_url_get(parsed, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK) {
        result += before + to_lower(text);
        curl_free(text);
      }
    }
  }
  curl_url_cleanup(parsed);
  return result;
}

std::string url_encode(std::string_view text, std::string_view keep) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    if (plain || keep.find(c) != std::string_view::npos) {
      result += c;
    } else {
      result += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return result;
}

}  // namespace oumi
