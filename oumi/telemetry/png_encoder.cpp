#include "oumi/telemetry/png_encoder.h"

#include <png.h>

#include <array>

#include "oumi/base/error.h"
#include "oumi/base/strings.h"

namespace oumi {

namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::string encode_png(std::span<const std::uint8_t> pixels, std::int64_t width, std::int64_t height, std::int64_t channels) {
  const bool fits = width > 0 && height > 0 && width <= 65535 && height <= 65535 &&
                    (channels == 1 || channels == 3 || channels == 4) &&
                    pixels.size() == static_cast<std::size_t>(width * height * channels);
  if (!fits) {
    throw InternalError(cat("image: expected width * height * channels pixels, got ", pixels.size(), " for ", width, " x ",
                            height, " x ", channels));
  }
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = channels == 1 ? PNG_FORMAT_GRAY : channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_RGBA;
  std::string bytes(PNG_IMAGE_PNG_SIZE_MAX(image), '\0');
  png_alloc_size_t size = bytes.size();
  if (png_image_write_to_memory(&image, bytes.data(), &size, /*convert_to_8_bit=*/0, pixels.data(), /*row_stride=*/0,
                                nullptr) == 0) {
    throw InternalError(cat("image cannot be encoded: ", image.message));
  }
  bytes.resize(size);
  return bytes;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j)
      group = (group << 8) | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j) text += i + j <= bytes.size() ? kAlphabet[(group >> (18 - 6 * j)) & 63] : '=';
  }
  return text;
}

std::string decode_base64(std::string_view text) {
  const auto fail = [](const std::string& what) {
    throw UserError("sample_predictions.json", "image data: expected base64, got " + what);
  };
  if (text.size() % 4 != 0) fail(cat(text.size(), " characters, which is not a multiple of 4"));
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::uint32_t group = 0;
    int digits = 0;
    for (std::size_t j = 0; j < 4; ++j) {
      const bool padding = text[i + j] == '=' && i + 4 == text.size() && j >= 2;
      const auto value = kAlphabet.find(text[i + j]);
      if (!padding && (value == std::string_view::npos || digits != static_cast<int>(j))) fail(cat("character number ", i + j));
      if (!padding) ++digits;
      group = (group << 6) | (padding ? 0U : static_cast<std::uint32_t>(value));
    }
    for (int j = 0; j + 1 < digits; ++j) bytes += static_cast<char>((group >> (16 - 8 * j)) & 0xFF);
  }
  return bytes;
}

}  // namespace oumi
