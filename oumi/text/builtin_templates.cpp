// The chat templates that Oumi knows by name (oumi/datasets/chat_templates), written for this project: the same text comes out.
// Lines that hold only a tag leave nothing behind (trim_blocks, lstrip_blocks).
#include "oumi/text/builtin_templates.h"

#include "oumi/base/error.h"
#include "oumi/base/strings.h"
#include "oumi/text/chat_template.h"

namespace oumi::text {
namespace {

const std::string kChatMl = R"({% set user_turn = 1 if messages[0].role == 'system' else 0 %}
{{ bos_token }}
{%- for message in messages %}
    {% if (message.role == 'user') != (loop.index0 % 2 == user_turn) %}
        {{- raise_exception('roles must alternate: an optional system message, then user, assistant, user, ...') }}
    {% endif %}
    {{- '<|im_start|>' + message.role + '\n' + message.content | trim + '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

const std::string kDefault = R"({% for message in messages %}
    {{- '\n' if not loop.first }}
    {{- message.role.upper() + ': ' + message.content | trim }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '\nASSISTANT: ' }}
{%- endif %}
)";

const std::string kDefaultGen = R"({% for message in messages %}
    {{- '\n' if not loop.first }}
    {{- message.role.upper() + ': ' }}
    {%- if message.role.upper() == 'ASSISTANT' %}
        {%- generation %}
            {{- message.content | trim }}
        {%- endgeneration %}
    {% else %}
        {{- message.content | trim }}
    {%- endif %}
{% endfor %}
{% if add_generation_prompt %}
    {{- '\nASSISTANT: ' }}
{%- endif %}
)";

const std::string kGemma2 = R"({# Gemma 2 has no system role: what it says goes in front of the first turn. #}
{{ bos_token }}
{%- set preface = messages[0].content if messages[0].role == 'system' else '' %}
{% set turns = messages[1:] if messages[0].role == 'system' else messages %}
{% for message in turns %}
    {% if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate: user, assistant, user, ...') }}
    {% endif %}
    {{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n' }}
    {%- if loop.first and preface %}
        {{- preface + '\n\n' }}
    {%- endif %}
    {{- message.content | trim + '<end_of_turn>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<start_of_turn>model\n' }}
{%- endif %}
)";

const std::string kGpt2 = R"({% for message in messages %}
    {{- message.content }}{{ eos_token }}
{%- endfor %}
)";

const std::string kInternVl3 = R"({% for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- elif message.content is iterable %}
        {% for part in message.content %}
            {% if part.type.startswith('image') %}
                {{- '<IMG_CONTEXT>\n' }}
            {%- elif part.type == 'video' %}
                {{- raise_exception('videos are not supported') }}
            {% elif part.type == 'text' %}
                {{- part.text if 'text' in part else part.content }}
            {%- endif %}
        {% endfor %}
    {% endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

const std::string kLlama3 = R"({% macro header(role) %}
    {{- '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}
{%- endmacro %}
{{ bos_token }}
{%- for message in messages %}
    {{- header(message.role) }}
    {%- if message.content is string %}
        {{- message.content | trim }}
    {%- elif message.content is iterable %}
        {% for part in message.content %}
            {% if part.type == 'text' %}
                {{- (part.text if 'text' in part else part.content) | trim }}
            {%- elif part.type.startswith('image') %}
                {{- '<|image|>' }}
            {%- endif %}
        {% endfor %}
    {% endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- header('assistant') }}
{%- endif %}
)";

const std::string kLlava = R"({% if messages[0].role == 'system' %}
    {{- messages[0].content + ' ' }}
{%- else %}
    {{- "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions. " }}
{%- endif %}
{% for message in messages if message.role == 'user' or message.role == 'assistant' %}
    {{- message.role.upper() + ': ' }}
    {%- if message.content is string %}
        {{- message.content + ' ' }}
    {%- elif message.content is iterable %}
        {% for part in message.content %}
            {% if part.type == 'text' %}
                {{- (part.text if 'text' in part else part.content) + ' ' }}
            {%- elif part.type.startswith('image') %}
                {{- '<image> ' }}
            {%- endif %}
        {% endfor %}
    {% endif %}
    {{- eos_token if message.role == 'assistant' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- 'ASSISTANT: ' }}
{%- endif %}
)";

const std::string kMolmo = R"({% for message in messages %}
    {% if message.role.lower() != ('user' if loop.index0 % 2 == 0 else 'assistant') %}
        {{- raise_exception('roles must alternate: user, assistant, user, ...') }}
    {% endif %}
    {{- ' ' if not loop.first }}
    {{- message.role.capitalize() + ': ' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- elif message.content is iterable %}
        {% for part in message.content if part.type == 'text' %}
            {{- part.text if 'text' in part else part.content }}
        {%- endfor %}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
    {{- ' Assistant:' }}
{%- endif %}
)";

const std::string kPhi3 = R"({% set seen = namespace(images=0) %}
{% for message in messages %}
    {{- '<|' + message.role + '|>\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- elif message.content is iterable %}
        {% for part in message.content %}
            {% if part.type == 'text' %}
                {{- part.text if 'text' in part else part.content }}
            {%- elif part.type.startswith('image') %}
                {% set seen.images = seen.images + 1 %}
                {{- '<|image_' ~ seen.images ~ '|>' }}
            {%- endif %}
        {% endfor %}
    {% endif %}
    {{- '<|end|>\n' }}
{%- endfor %}
{% if add_generation_prompt and messages[-1].role != 'assistant' %}
    {{- '<|assistant|>\n' }}
{%- endif %}
)";

const std::string kQwen2 = R"({% if messages[0].role != 'system' %}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{% for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

const std::string kQwenVl = R"({% set seen = namespace(images=0, videos=0) %}
{% if messages[0].role != 'system' %}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{% for message in messages %}
    {{- '<|im_start|>' + message.role + '\n' }}
    {%- if message.content is string %}
        {{- message.content }}
    {%- elif message.content is iterable %}
        {% for part in message.content %}
            {% if part.type.startswith('image') %}
                {% set seen.images = seen.images + 1 %}
                {{- 'Picture ' ~ seen.images ~ ': ' if add_vision_id }}
                {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
            {%- elif part.type.startswith('video') %}
                {% set seen.videos = seen.videos + 1 %}
                {{- 'Video ' ~ seen.videos ~ ': ' if add_vision_id }}
                {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
            {%- elif part.type == 'text' %}
                {{- part.text if 'text' in part else part.content }}
            {%- endif %}
        {% endfor %}
    {% endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

const std::string kZephyr = R"({% set user_turn = 1 if messages[0].role == 'system' else 0 %}
{% for message in messages %}
    {% if (message.role == 'user') != (loop.index0 % 2 == user_turn) %}
        {{- raise_exception('roles must alternate: an optional system message, then user, assistant, user, ...') }}
    {% endif %}
    {{- '<|' + message.role + '|>\n' + message.content | trim + eos_token + '\n' }}
{%- endfor %}
{% if add_generation_prompt %}
    {{- '<|assistant|>\n' }}
{%- endif %}
)";

}  // namespace

const std::vector<BuiltinTemplate>& builtin_templates() {
  static const std::vector<std::string> kIm = {"<|im_start|>", "<|im_end|>"};
  static const std::vector<std::string> kQwenVlTokens = {"<|im_start|>",   "<|im_end|>",    "<|vision_start|>",
                                                         "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"};
  static const std::vector<BuiltinTemplate> kTemplates = {
      {"chat_ml", kChatMl, kIm, "<|im_end|>"},
      {"default", kDefault, {}, ""},
      {"default_gen", kDefaultGen, {}, ""},
      {"gemma2-it", kGemma2, {"<start_of_turn>", "<end_of_turn>"}, "<end_of_turn>"},
      {"gpt2", kGpt2, {}, ""},
      {"internvl3", kInternVl3, {"<|im_start|>", "<|im_end|>", "<IMG_CONTEXT>"}, "<|im_end|>"},
      {"llama3-instruct", kLlama3, {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|image|>"}, "<|eot_id|>"},
      {"llava", kLlava, {"<image>"}, ""},
      {"molmo", kMolmo, {}, ""},
      {"phi3-instruct", kPhi3, {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"}, "<|end|>"},
      {"qwen2-instruct", kQwen2, kIm, "<|im_end|>"},
      {"qwen2-vl-instruct", kQwenVl, kQwenVlTokens, "<|im_end|>"},
      {"qwen3-vl-instruct", kQwenVl, kQwenVlTokens, "<|im_end|>"},
      {"zephyr", kZephyr, {}, ""},
  };
  return kTemplates;
}

const BuiltinTemplate& builtin_template(std::string_view name) {
  const std::string wanted = to_lower(name);
  for (const BuiltinTemplate& entry : builtin_templates()) {
    if (wanted == entry.name) return entry;
  }
  throw UserError("model.chat_template", cat("expected the name of a built-in template, got '", name, "'"),
                  suggestion(name, builtin_chat_template_names()));
}

}  // namespace oumi::text

namespace oumi {

const std::string& builtin_chat_template(std::string_view name) { return text::builtin_template(name).source; }

std::vector<std::string> builtin_chat_template_names() {
  std::vector<std::string> names;
  for (const text::BuiltinTemplate& entry : text::builtin_templates()) names.push_back(entry.name);
  return names;
}

}  // namespace oumi
