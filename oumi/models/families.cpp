// The list of families: the one shared line that a new one adds.
#include "oumi/models/gemma2/gemma2.h"
#include "oumi/models/gemma3/gemma3.h"
#include "oumi/models/gpt2/gpt2.h"
#include "oumi/models/language_models.h"
#include "oumi/models/llama/llama.h"
#include "oumi/models/mistral/mistral.h"
#include "oumi/models/olmo2/olmo2.h"
#include "oumi/models/olmo3/olmo3.h"
#include "oumi/models/phi3/phi3.h"
#include "oumi/models/qwen2/qwen2.h"
#include "oumi/models/qwen3/qwen3.h"
#include "oumi/models/qwen3_moe/qwen3_moe.h"

namespace oumi {

Registry<LanguageModelFamily>& language_model_families() {
  static Registry<LanguageModelFamily>* const registry = [] {
    auto* families = new Registry<LanguageModelFamily>("model family");  // never destroyed, as model_registry
    for (const LanguageModelFamily& family : std::vector<LanguageModelFamily>{
             llama_family(), mistral_family(), qwen2_family(), qwen3_family(), qwen3_moe_family(), phi3_family(), gpt2_family(),
             gemma2_family(), gemma3_family(), olmo2_family(), olmo3_family()}) {
      families->add(family.model_type, family);
    }
    return families;
  }();
  return *registry;
}

}  // namespace oumi
