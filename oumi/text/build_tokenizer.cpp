#include "oumi/text/build_tokenizer.h"

namespace oumi {

BuiltTokenizer build_tokenizer(const std::filesystem::path& folder, const ModelParams& params) {
  return {Tokenizer::load(folder, {.kwargs = params.tokenizer_kwargs}), {}};
}

}  // namespace oumi
