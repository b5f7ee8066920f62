#include "cli/completion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "oumi/base/error.h"
#include "oumi/base/files.h"

namespace oumi::cli {
namespace {

using testing::HasSubstr;

const std::vector<ConfigKeyHelp> kKeys = {{"training.max_steps", "Don't \"stop\" before `this` $step\\."},
                                          {"data.train.datasets[0].split", ""}};

TEST(CompletionTest, OffersVerbsAndKeysInEveryShell) {
  for (const Shell shell : {Shell::kBash, Shell::kZsh, Shell::kFish}) {
    const std::string script = completion_script(shell, kKeys);
    for (const char* verb : {"train", "evaluate", "predict", "config", "checkpoint", "new", "env", "report", "completion"})
      EXPECT_THAT(script, HasSubstr(verb));
    EXPECT_THAT(script, HasSubstr("training.max_steps"));
    EXPECT_THAT(script, HasSubstr("data.train.datasets[0].split"));
  }
}

TEST(CompletionTest, ShellsThatAreInstalledAcceptTheScript) {
  const TemporaryDirectory directory;
  for (const auto& [shell, name] : {std::pair{Shell::kBash, "bash"}, {Shell::kZsh, "zsh"}, {Shell::kFish, "fish"}}) {
    if (std::system((std::string("command -v ") + name + " >/dev/null 2>&1").c_str()) != 0) continue;
    const auto path = directory.path() / name;
    write_file_atomically(path, completion_script(shell, kKeys));
    EXPECT_EQ(std::system((std::string(name) + " -n '" + path.string() + "'").c_str()), 0) << name;
  }
}

TEST(CompletionTest, BashCompletesVerbsSubverbsAndKeys) {
  const TemporaryDirectory directory;
  const auto script = directory.path() / "script", result = directory.path() / "result";
  write_file_atomically(
      script, completion_script(Shell::kBash, kKeys) +
                  "t() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _oumi_cpp; echo \"${COMPREPLY[@]}\"; }\n"
                  "t oumi-cpp tra; t oumi-cpp config ch; t oumi-cpp train --training.m; t oumi-cpp env --training.m; t "
                  "oumi-cpp completion f\n");
  ASSERT_EQ(std::system(("bash --norc '" + script.string() + "' > '" + result.string() + "'").c_str()), 0);
  EXPECT_EQ(read_text_file(result), "train\ncheck\n--training.max_steps\n\nfish\n");
}

TEST(CompletionTest, UnknownShellIsAUserError) {
  try {
    completion_command({"zhs"});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_THAT(error.message(), HasSubstr("unknown shell 'zhs'"));
    EXPECT_EQ(error.hint(), "did you mean 'zsh'?");
  }
  EXPECT_THROW(completion_command({}), UserError);
}

}  // namespace
}  // namespace oumi::cli
