#include "oumi/config/model_params.h"

#include "oumi/config/codec.h"

namespace oumi {

FieldList fields_of(const ModelParams*) {
  using P = ModelParams;
  static constexpr Field kFields[] = {
      required_field<&P::model_name>("model_name", "", "Registered model, local folder, or model on the Hub."),
      field<&P::adapter_model>("adapter_model", "", "Adapter to put on the model: a local folder or a Hub name."),
      field<&P::adapter_trainable>("adapter_trainable", "", "Go on training that adapter instead of freezing it."),
      field<&P::tokenizer_name>("tokenizer_name", "", "Tokenizer, where it isn't the model's own."),
      field<&P::tokenizer_pad_token>("tokenizer_pad_token", "", "Padding token, where the tokenizer has none."),
      field<&P::tokenizer_kwargs>("tokenizer_kwargs", "", "Arguments of the tokenizer."),
      field<&P::processor_kwargs>("processor_kwargs", "", "Arguments of an image or audio processor."),
      field<&P::model_max_length>("model_max_length", "tokens", "Longest sequence; longer samples are cut."),
      field<&P::load_pretrained_weights>("load_pretrained_weights", "",
                                         "Load weights; false starts from the seed's initial ones."),
      field<&P::trust_remote_code>("trust_remote_code", "", "Accepted for old recipes; no remote code is ever run."),
      field<&P::torch_dtype_str>("torch_dtype_str", "",
                                 "Element type of the weights: auto, float32, bfloat16, float16, float64, ..."),
      field<&P::compile>("compile", "", "For inference alone; training takes training.compile."),
      field<&P::chat_template>("chat_template", "", "Built-in chat template by name, or auto; unset uses the tokenizer's."),
      field<&P::chat_template_kwargs>("chat_template_kwargs", "", "Variables that the chat template is rendered with."),
      field<&P::attn_implementation>("attn_implementation", "", "sdpa, eager or flash_attention_2; all run our own attention."),
      field<&P::device_map>("device_map", "", "Accepted for old recipes; placement follows the ranks."),
      field<&P::model_kwargs>("model_kwargs", "", "Arguments of the model's constructor, or overrides of its config.json."),
      field<&P::enable_liger_kernel>("enable_liger_kernel", "", "Fused kernels; ours are always on."),
      field<&P::shard_for_eval>("shard_for_eval", "", "Spread the model over devices for evaluation."),
      field<&P::freeze_layers>("freeze_layers", "", "Dotted names of modules whose parameters stay as they are."),
      field<&P::text_only>("text_only", "", "Load only the language model of a multi-modal checkpoint."),
      field<&P::model_revision>("model_revision", "", "Branch, tag or commit of the model on the Hub."),
      field<&P::tool_call_parser>("tool_call_parser", "", "How tool calls are read from generated text."),
  };
  return kFields;
}

}  // namespace oumi
