#include "oumi/hub/digest.h"

#include <openssl/evp.h>

#include <fstream>
#include <memory>
#include <vector>

#include "oumi/base/error.h"
#include "oumi/base/files.h"

namespace oumi {
namespace {

std::string hash(const std::filesystem::path& path, const EVP_MD* kind, const std::string& prefix) {
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), kind, nullptr) != 1)
    throw EnvironmentError("libcrypto", "could not start a hash");
  EVP_DigestUpdate(context.get(), prefix.data(), prefix.size());
  std::ifstream file(path, std::ios::binary);
  if (!file) throw_file_error(path, "cannot be read");
  std::vector<char> buffer(std::size_t{1} << 20);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0) {
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (file.bad()) throw_file_error(path, "cannot be read");
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), digest, &size);
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text += "0123456789abcdef"[digest[i] >> 4];
    text += "0123456789abcdef"[digest[i] & 15];
  }
  return text;
}

}  // namespace

std::string sha256_file(const std::filesystem::path& path) { return hash(path, EVP_sha256(), ""); }

std::string git_blob_sha1_file(const std::filesystem::path& path) {
  return hash(path, EVP_sha1(), "blob " + std::to_string(std::filesystem::file_size(path)) + std::string(1, '\0'));
}

}  // namespace oumi
