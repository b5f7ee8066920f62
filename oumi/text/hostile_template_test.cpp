// Templates that were written to end the process, to hang it or to fill its memory: each gets an error, soon.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "oumi/base/error.h"
#include "oumi/text/chat_template.h"
#include "oumi/text/test_support.h"

namespace oumi {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

std::string outcome(const std::string& source) {
  try {
    const Json messages = {{{"role", "user"}, {"content", "hi"}}};
    return "gave " + std::to_string(ChatTemplate(source, Json::object(), "t").render(messages).text.size()) + " bytes";
  } catch (const UserError& error) {
    return std::string(error.what()) + " | " + error.hint();
  }
}

struct Hostile {
  std::string source;
  std::string expected;
};

std::string doubling(const std::string& value) {
  return "{% set ns = namespace(x=[1, 2]) %}{% for i in range(1000) %}{% set ns.x = " + value + " %}{% endfor %}{{ ns.x }}";
}

std::string in_loop(const std::string& body) {
  return "{% set a = 'é' * 500000 %}{% for i in range(100000) %}" + body + "{% endfor %}";
}

TEST(HostileTemplates, GetAnErrorSoon) {
  OUMI_NEEDS_BRIDGE();
  const std::string operators = "expected at most 2000 operators in one tag, got ";
  const std::string large = "refused: a value of more than 1048576 items or 67108864 bytes";
  const std::string steps = "refused: the template takes more than 8000000 steps";
  const std::string list = "{% set x = range(100000)|list %}";
  const std::vector<Hostile> cases = {
      {"x" + repeat(" ", 1 << 17), "expected a template of at most 131072 bytes, got 131073"},
      {"{{ " + repeat("-", 100000) + "x }}", operators + "100002"},
      {"\n{% set y = " + repeat("not ", 32000) + "x %}", "line 2: refused: " + operators + "32004"},
      {"{{ " + repeat("2**", 43000) + "1 }}", operators + "86002"},
      {"{{ x" + repeat("+x", 65000) + " }}", operators},
      {"{{ x" + repeat("()", 3000) + " }}", operators},
      {"{{ x" + repeat(".a", 3000) + " }}", operators},
      {repeat("{% if 1 %}", 10000), "recursion limit"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursion limit"},
      {"{% set a = 'x' * 100000 %}{{ ([a] * 100000)|join }}", large},
      {"{% set a = 'x' * 100000 %}{{ ''.join([a] * 100000) }}", large},
      {"{% set a = 'x' * 100000 %}{{ a.join(range(100000)) }}", "join: refused"},
      {"{{ ([{'a': 'x' * 1000000}] * 1000)|join(attribute='a') }}", large},
      {doubling("ns.x + ns.x"), large},
      {doubling("[ns.x, ns.x]"), large},
      {doubling("[ns.x]"), "refused: a value nested deeper than 64 levels"},
      {doubling("ns"), "refused: a namespace as an attribute of a namespace"},
      {doubling("ns.x * 1000"), large},
      {"{% set ns = namespace(x='ab') %}{% for i in range(1000) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}", "refused"},
      {"{% macro m(x, n) %}{% if n %}{{ m(x + x, n - 1) }}{% else %}{{ x|length }}{% endif %}{% endmacro %}{{ m([1, 2], 100) "
       "}}",
       large},
      {"{% for i in [[1, 2]] recursive %}{{ i|length }}{{ loop([i + i]) }}{% endfor %}", large},
      {"{% with b = [1] %}" + repeat("{% with b = b + b %}", 60) + "{{ b|length }}" + repeat("{% endwith %}", 61), large},
      {"{% set x = [1] * 1000 %}{{ [[x] * 1000] * 1000 == [[x] * 1000] * 1000 }}", large},
      {list + "{% set y = range(100000)|list %}" + repeat("{{ x == y }}", 5000), steps},
      {list + repeat("{{ x|sort|length }}", 5000), steps},
      {list + "{% for i in x %}{{ x }}{% endfor %}", steps},
      {"{{ ([[1]] * 100000)|sum(start=[]) }}", "expected at most 1000 lists, got 100000"},
      {in_loop("{{ a[499999] }}"), steps},
      {in_loop("{{ a == a ~ 'b' }}"), steps},
      {in_loop("{{ a.count('a') }}"), steps},
      {in_loop("{{ a is upper }}"), steps},
      {in_loop("{{ a|trim|length }}"), steps},
      {in_loop("{{ a|trim(a) }}"), "strip: refused: expected at most 1000 bytes of characters, got 1000000"},
      {in_loop("{{ a.strip(a) }}"), "strip: refused"},
      {in_loop("{{ a.replace('é', a) }}"), steps},
      {"{{ [[1]]|tojson(indent=1000000000) }}", "tojson: refused: expected an indent of at most 64"},
      {"{{ range(100000)|list|tojson(separators=('x' * 1000000, ':')) }}",
       "tojson: refused: expected separators of at most 64 bytes"},
      {"{{ '{:>100000000000}'.format(5) }}", "format: refused"},
      {"{{ 'x' * 1000000000000 }}", "refused"},
      {"{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", steps},
  };
  for (const Hostile& hostile : cases) {
    const auto start = std::chrono::steady_clock::now();
    const std::string got = outcome(hostile.source);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_THAT(got, AllOf(HasSubstr(hostile.expected), HasSubstr("templates are limited in what they may cost")))
        << hostile.source.substr(0, 200);
    // A second or so where nothing else runs; a hang is what it is about.
    EXPECT_LT(seconds, 20) << hostile.source.substr(0, 200);
  }
}

TEST(HostileTemplates, WhatIsLargeButHonestIsRendered) {
  OUMI_NEEDS_BRIDGE();
  Json messages = Json::array();
  for (int i = 0; i < 4000; ++i)
    messages.push_back({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", repeat("word ", 500)}});
  const std::string source =
      "{% set ns = namespace(last='') %}{% for message in messages %}{% if message.role == 'user' and not loop.first %}"
      "{% set ns.last = messages[loop.index0 - 1].content %}{% endif %}{% set content = message.content|trim + '\\n' %}"
      "{% if 'tool_calls' in message or (loop.index0 < messages|length - 1 and messages[loop.index0 + 1].role == message.role) "
      "%}?{% endif %}"
      "{% if content.startswith('x') or '</think>' in content %}{{ content.split('</think>')[-1] }}{% else %}{{ '<' ~ "
      "message['role'] ~ '>' + content }}{% endif %}"
      "{% endfor %}{% set rest = [1] + [2] %}{{ rest }}{{ rest + [rest[0] * 2] }}";
  const std::string text = ChatTemplate(source, Json::object(), "t").render(messages).text;
  EXPECT_EQ(text.size(), 4000 * 2500 + 2000 * (6 + 11) + std::string("[1, 2][1, 2, 2]").size());
  EXPECT_THAT(text, testing::EndsWith("word\n[1, 2][1, 2, 2]"));
}

}  // namespace
}  // namespace oumi
