// PNG files in memory, for images that a page carries in itself.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace oumi {

// `pixels` are 8-bit, row by row, channels interleaved: 1 (grey), 3 (RGB) or 4 (RGBA). Throws InternalError when they do not
// fit the size.
std::string encode_png(std::span<const std::uint8_t> pixels, std::int64_t width, std::int64_t height, std::int64_t channels);

std::string encode_base64(std::string_view bytes);
// Throws UserError("sample_predictions.json", ...) for what is not base64 (RFC 4648 with padding).
std::string decode_base64(std::string_view text);

}  // namespace oumi
