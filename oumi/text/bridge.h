// The functions of bridge/oumi_bridge.h, loaded when text is first needed: liboumi_bridge.so is built where there is a Rust
// compiler, and everything else works without it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "bridge/oumi_bridge.h"

namespace oumi::text {

struct Bridge {
#define OUMI_BRIDGE_FUNCTIONS(X)                                                                                          \
  X(abi)                                                                                                                  \
  X(release) X(tokenizer_new) X(tokenizer_free) X(tokenizer_add_tokens) X(tokenizer_set_post_processor) X(tokenizer_json) \
      X(vocab_size) X(token_to_id) X(id_to_token) X(encode) X(encodings_release) X(decode) X(train) X(template_new)       \
          X(template_free) X(template_generates) X(render)
#define OUMI_BRIDGE_MEMBER(name) decltype(&oumi_bridge_##name) name = nullptr;
  OUMI_BRIDGE_FUNCTIONS(OUMI_BRIDGE_MEMBER)
#undef OUMI_BRIDGE_MEMBER
};

// Throws EnvironmentError saying how to build it when the library isn't there.
const Bridge& bridge();
bool bridge_available() noexcept;

inline OumiBytes as_bytes(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

// A buffer of the bridge, given back at the end of the scope.
class BridgeBuffer {
 public:
  BridgeBuffer() = default;
  ~BridgeBuffer();
  BridgeBuffer(const BridgeBuffer&) = delete;
  BridgeBuffer& operator=(const BridgeBuffer&) = delete;
  OumiBuffer* out() noexcept { return &buffer_; }
  std::string_view view() const noexcept { return {reinterpret_cast<const char*>(buffer_.data), buffer_.size}; }
  std::string text() const { return std::string(view()); }

 private:
  OumiBuffer buffer_{};
};

// Throws what `status` says: UserError(component, "<what>: <message>", hint), or InternalError when the bridge is at fault.
void check_bridge(std::int32_t status, const BridgeBuffer& message, const std::string& component, const std::string& what,
                  const std::string& hint);

}  // namespace oumi::text
