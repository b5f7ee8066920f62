// PNG and JPEG files -> bytes, with Pillow's pixel values. No torch here.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace oumi {

enum class ImageMode { kGray, kRgb };

struct Image {
  std::int64_t channels = 0, height = 0, width = 0;
  std::vector<std::uint8_t> pixels;  // [channels, height, width]
};

// Decodes and converts as Pillow's Image.open(path).convert("L" or "RGB"): alpha is dropped, 16 bits are cut to 8, colour
// becomes gray by (19595 R + 38470 G + 7471 B + 32768) / 65536. Throws UserError naming the file when it is neither PNG nor
// JPEG, damaged, truncated, or larger than 2^28 pixels.
Image decode_image(const std::filesystem::path& path, ImageMode mode);

}  // namespace oumi
