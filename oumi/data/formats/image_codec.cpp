#include "oumi/data/formats/image_codec.h"

#include <png.h>

#include <csetjmp>
#include <cstdio>
#include <cstring>
// jpeglib.h needs cstdio before it.
#include <jerror.h>
#include <jpeglib.h>

#include "oumi/base/error.h"
#include "oumi/base/files.h"
#include "oumi/base/strings.h"

namespace oumi {
namespace {

constexpr std::uint64_t kMaxPixels = 1ULL << 28;

// Both libraries report errors by longjmp out of their C code. The frames that it crosses hold plain data only: everything
// with a destructor lives in the caller.
struct Decoded {
  std::uint32_t width = 0, height = 0, channels = 0;  // 1, 2 (gray and alpha), 3 or 4 (RGB and alpha)
  std::vector<std::uint8_t> pixels;                   // [height, width, channels]
  std::vector<png_bytep> rows;
  char error[256] = "";
};

struct Source {
  const std::uint8_t* data;
  std::size_t size, at = 0;
};

void png_read_source(png_structp png, png_bytep out, std::size_t size) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (source->size - source->at < size) png_error(png, "the file is truncated");
  std::memcpy(out, source->data + source->at, size);
  source->at += size;
}

void png_fail(png_structp png, png_const_charp message) {
  auto* decoded = static_cast<Decoded*>(png_get_error_ptr(png));
  std::snprintf(decoded->error, sizeof decoded->error, "%s", message);
  png_longjmp(png, 1);
}

void png_ignore(png_structp, png_const_charp) {}

bool decode_png(Source* source, Decoded* decoded) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, decoded, png_fail, png_ignore);
  if (png == nullptr) return false;
  png_infop info = png_create_info_struct(png);
  if (info == nullptr || setjmp(png_jmpbuf(png)) != 0) {
    png_destroy_read_struct(&png, &info, nullptr);
    return false;
  }
  png_set_read_fn(png, source, png_read_source);
  png_read_info(png, info);
  decoded->width = png_get_image_width(png, info);
  decoded->height = png_get_image_height(png, info);
  if (static_cast<std::uint64_t>(decoded->width) * decoded->height > kMaxPixels) png_error(png, "more than 2^28 pixels");
  png_set_strip_16(png);
  png_set_palette_to_rgb(png);
  if (png_get_bit_depth(png, info) < 8) png_set_expand_gray_1_2_4_to_8(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  decoded->channels = png_get_channels(png, info);
  decoded->pixels.resize(static_cast<std::size_t>(decoded->width) * decoded->height * decoded->channels);
  decoded->rows.resize(decoded->height);
  for (std::size_t y = 0; y < decoded->height; ++y) {
    decoded->rows[y] = decoded->pixels.data() + y * decoded->width * decoded->channels;
  }
  png_read_image(png, decoded->rows.data());
  png_read_end(png, nullptr);
  png_destroy_read_struct(&png, &info, nullptr);
  return true;
}

struct JpegErrors {
  jpeg_error_mgr base;
  std::jmp_buf jump;
  Decoded* decoded;
};

void jpeg_fail(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  char message[JMSG_LENGTH_MAX];
  errors->base.format_message(info, message);
  std::snprintf(errors->decoded->error, sizeof errors->decoded->error, "%s", message);
  std::longjmp(errors->jump, 1);
}

// A truncated file is a mere warning to libjpeg, which fills the rest with gray.
void jpeg_message(j_common_ptr info, int level) {
  const int code = info->err->msg_code;
  if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE)) jpeg_fail(info);
}

bool decode_jpeg(const Source* source, Decoded* decoded) {
  jpeg_decompress_struct info;
  JpegErrors errors;
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = jpeg_fail;
  errors.base.emit_message = jpeg_message;
  errors.decoded = decoded;
  if (setjmp(errors.jump) != 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, source->data, static_cast<unsigned long>(source->size));
  jpeg_read_header(&info, TRUE);
  if (static_cast<std::uint64_t>(info.image_width) * info.image_height > kMaxPixels) {
    std::snprintf(decoded->error, sizeof decoded->error, "more than 2^28 pixels");
    jpeg_destroy_decompress(&info);
    return false;
  }
  info.out_color_space = info.jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_start_decompress(&info);
  decoded->width = info.output_width;
  decoded->height = info.output_height;
  decoded->channels = static_cast<std::uint32_t>(info.output_components);
  decoded->pixels.resize(static_cast<std::size_t>(decoded->width) * decoded->height * decoded->channels);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = decoded->pixels.data() + static_cast<std::size_t>(info.output_scanline) * decoded->width * decoded->channels;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return true;
}

Image convert(const Decoded& decoded, ImageMode mode) {
  Image image{mode == ImageMode::kGray ? 1 : 3, decoded.height, decoded.width, {}};
  const std::size_t area = static_cast<std::size_t>(decoded.width) * decoded.height;
  image.pixels.resize(area * static_cast<std::size_t>(image.channels));
  const bool is_colour = decoded.channels >= 3;
  for (std::size_t i = 0; i < area; ++i) {
    const std::uint8_t* pixel = decoded.pixels.data() + i * decoded.channels;
    if (mode == ImageMode::kRgb) {
      for (std::size_t c = 0; c < 3; ++c) image.pixels[c * area + i] = pixel[is_colour ? c : 0];
    } else {
      image.pixels[i] = is_colour
                            ? static_cast<std::uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16)
                            : pixel[0];
    }
  }
  return image;
}

}  // namespace

Image decode_image(const std::filesystem::path& path, ImageMode mode) {
  const MappedFile file(path);
  Source source{reinterpret_cast<const std::uint8_t*>(file.data()), file.size()};
  Decoded decoded;
  bool done = false;
  if (source.size >= 8 && png_sig_cmp(source.data, 0, 8) == 0) {
    done = decode_png(&source, &decoded);
  } else if (source.size >= 3 && source.data[0] == 0xFF && source.data[1] == 0xD8 && source.data[2] == 0xFF) {
    done = decode_jpeg(&source, &decoded);
  } else {
    throw UserError(path.string(), "expected a PNG or JPEG image, got something else",
                    "convert the file, or move it out of the folder");
  }
  if (!done) throw UserError(path.string(), cat("the image cannot be decoded: ", decoded.error), "replace the file");
  return convert(decoded, mode);
}

}  // namespace oumi
