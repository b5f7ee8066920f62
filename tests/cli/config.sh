#!/usr/bin/env bash
# oumi-cpp config show|check, overrides, and what a wrong config or command line answers.
source "$(dirname "$0")/../lib.sh"

cat >base.yaml <<'YAML'
model:
  model_name: SimpleModel
  load_pretrained_weights: false
data:
  train:
    datasets:
      - dataset_name: fashion_mnist
        split: train[:64]
  validation:
    datasets:
      - dataset_name: fashion_mnist
        split: test[:32]
training:
  output_dir: out
  max_steps: 4
YAML

# value_of CONFIG ARGUMENTS...: the value that config show prints for the key $KEY.
value_of() { run "$OUMI_CPP" config show -c "$@"; sed -n "s/^ *$KEY: //p" "$WORK/.stdout"; }

CASE="help and version"
expect_exit 0 "$OUMI_CPP" --help
for verb in train evaluate predict config checkpoint new report env completion; do expect_stdout "$verb"; done
expect_no_stderr
expect_exit 0 "$OUMI_CPP" train --help
expect_stdout "--overwrite"
expect_exit 0 "$OUMI_CPP" config show --help
expect_exit 0 "$OUMI_CPP" --version
pass; grep -Eqx 'oumi-cpp [0-9]+\.[0-9]+\.[0-9]+.*' .stdout || fail "expected 'oumi-cpp 1.2.3'"
expect_no_stderr
# Neither linked nor loaded at run time, and quick: loading LibTorch alone takes a quarter of a second.
expect_exit 0 ldd "$OUMI_CPP"
pass; ! grep -Eq 'libtorch|libc10|liboumi\.so' .stdout || fail "the executable links LibTorch"
for arguments in --help --version "train --help" "config show -c base.yaml"; do
  # shellcheck disable=SC2086
  expect_exit 0 env LD_DEBUG=files "$OUMI_CPP" $arguments
  pass; ! grep -Eq 'libtorch|libc10' .stderr || fail "'$arguments' loads LibTorch"
done
pass
started=$(date +%s%N)
for _ in 1 2 3 4 5; do "$OUMI_CPP" --version >/dev/null; done
elapsed=$((($(date +%s%N) - started) / 5000000))
[ "$elapsed" -lt 150 ] || fail "--version takes $elapsed ms"

CASE="command line"
expect_error 2 "[command line]" "$OUMI_CPP"
expect_no_stdout
expect_error 2 "[command line]" "$OUMI_CPP" trian -c base.yaml
expect_error 2 "[command line]" "$OUMI_CPP" train
expect_error 2 "[command line]" "$OUMI_CPP" config
expect_error 2 "[command line]" "$OUMI_CPP" config show
expect_error 2 "[command line]" "$OUMI_CPP" config show -c
expect_error 2 "" "$OUMI_CPP" config show -c base.yaml --training.max_steps
expect_error 2 "" "$OUMI_CPP" config show -c base.yaml stray

CASE="canonical form"
expect_exit 0 "$OUMI_CPP" config show -c base.yaml
expect_no_stderr
cp .stdout once.yaml
expect_exit 0 "$OUMI_CPP" config show -c once.yaml
expect_no_stderr
expect_same .stdout once.yaml
# Nothing but YAML: every line is a key, an item, or inside one.
pass; ! grep -Evq '^( *- .*| *[A-Za-z_][A-Za-z0-9_]*:.*|\.\.\.|---)$' once.yaml || fail "stdout holds a line that is no YAML key: $(grep -Ev '^( *- .*| *[A-Za-z_][A-Za-z0-9_]*:.*)$' once.yaml | head -n 3)"
pass; grep -Eq '^  max_steps: 4$' once.yaml || fail "max_steps is not shown"
# Defaults are Oumi's, and all keys are shown.
pass; grep -Eq '^  logging_steps: 50(\.0)?$' once.yaml || fail "logging_steps: expected Oumi's 50"
for key in model data training peft fsdp; do pass; grep -q "^$key:" once.yaml || fail "no section $key"; done
# Key order and style of the input do not matter.
cat >flow.yaml <<'YAML'
{training: {max_steps: 0x4, output_dir: "out"},
 data: {validation: {datasets: [{split: 'test[:32]', dataset_name: fashion_mnist}]}, train: {datasets: [{split: 'train[:64]', dataset_name: fashion_mnist}]}},
 model: {load_pretrained_weights: no, model_name: SimpleModel}}
YAML
expect_exit 0 "$OUMI_CPP" config show -c flow.yaml
expect_same .stdout once.yaml
# Paths are not looked at.
expect_exit 0 "$OUMI_CPP" config show -c base.yaml data.train.datasets[0].dataset_path=/nowhere model.model_name=/nowhere/model

CASE="shipped configs"
for config in "$OUMI_SOURCE_DIR"/configs/*.yaml; do
  CASE=${config##*/}
  expect_exit 0 "$OUMI_CPP" config show -c "$config"
  expect_no_stderr
  cp .stdout shown.yaml
  expect_exit 0 "$OUMI_CPP" config show -c shown.yaml
  expect_same .stdout shown.yaml
  # The commands at a text recipe's head make the tokenizer that it names: integration/text_recipes.sh.
  grep -q "^  tokenizer_name: ./tokenizer$" "$config" && continue
  expect_exit 0 "$OUMI_CPP" config check -c "$config"
  expect_stdout "ok"
done

CASE="overrides"
KEY=max_steps
expect_equal "$(value_of base.yaml --training.max_steps 7)" 7 "--a.b value"
expect_equal "$(value_of base.yaml --training.max_steps=8)" 8 "--a.b=value"
expect_equal "$(value_of base.yaml training.max_steps=9)" 9 "a.b=value"
expect_equal "$(value_of base.yaml training.max_steps=9 --training.max_steps 10 --training.max_steps=-1)" -1 "later ones win"
expect_equal "$(value_of base.yaml --training.max_steps -1)" -1 "a value that begins with -"
KEY=learning_rate
expect_equal "$(value_of base.yaml training.learning_rate=1e-3)" 0.001 "float"
KEY=run_name
expect_equal "$(value_of base.yaml training.run_name=a=b)" '"a=b"' "only the first = separates"
expect_equal "$(value_of base.yaml 'training.run_name=two words')" "two words" "spaces"
expect_equal "$(value_of base.yaml training.run_name=null)" null "null"
KEY=max_grad_norm
expect_equal "$(value_of base.yaml training.max_grad_norm=null)" null "null of a float"
KEY=enable_tensorboard
expect_equal "$(value_of base.yaml --training.enable_tensorboard=false)" false "bool"
KEY=nan_policy
expect_equal "$(value_of base.yaml training.nan_policy=skip)" SKIP "enums ignore case"
run "$OUMI_CPP" config show -c base.yaml data.train.datasets[0].split=test
pass; [ "$(grep -c 'split: test$' .stdout)" -eq 1 ] || fail "list index: expected the first dataset's split to change"
expect_error 2 "datasets" "$OUMI_CPP" config show -c base.yaml data.train.datasets[3].split=test
# A second file is laid over the first.
printf 'training:\n  max_steps: 21\n' >over.yaml
KEY=max_steps
expect_equal "$(value_of base.yaml -c over.yaml)" 21 "-c twice"
expect_equal "$(value_of over.yaml -c base.yaml)" 4 "-c twice, other way round"
KEY=model_name
expect_equal "$(value_of base.yaml -c over.yaml)" SimpleModel "keys of the first file stay"

CASE="errors"
expect_error 2 "nowhere.yaml" "$OUMI_CPP" config show -c nowhere.yaml
expect_no_stdout
expect_error 2 "cannot be read" "$OUMI_CPP" config show -c "$WORK"
sed 's/max_steps: 4/max_step: 4/' base.yaml >unknown.yaml
expect_error 2 "max_step" "$OUMI_CPP" config show -c unknown.yaml
expect_stderr "max_steps"          # the nearest key
expect_stderr "unknown.yaml:15:3"  # line and column
expect_no_stdout
expect_error 2 "learning_rat" "$OUMI_CPP" config show -c base.yaml training.learning_rat=1
expect_stderr "learning_rate"
sed 's/max_steps: 4/max_steps: four/' base.yaml >type.yaml
expect_error 2 "training.max_steps" "$OUMI_CPP" config show -c type.yaml
expect_stderr "four"
expect_stderr "type.yaml:15"
sed 's/max_steps: 4/max_steps: 4.5/' base.yaml >fraction.yaml
expect_error 2 "training.max_steps" "$OUMI_CPP" config show -c fraction.yaml
expect_error 2 "training.max_steps" "$OUMI_CPP" config show -c base.yaml training.max_steps=null
expect_error 2 "training" "$OUMI_CPP" config show -c base.yaml training=5
{ cat base.yaml; printf '  max_steps: 5\n'; } >twice.yaml
expect_error 2 "max_steps" "$OUMI_CPP" config show -c twice.yaml
expect_stderr "line 16"
printf 'training: [1, 2\n' >broken.yaml
expect_error 2 "broken.yaml" "$OUMI_CPP" config show -c broken.yaml
printf '' >empty.yaml
run "$OUMI_CPP" config show -c empty.yaml
pass; [ "$CODE" -eq 0 ] || [ "$CODE" -eq 2 ] || fail "an empty file: expected 0 or 2, got $CODE"
printf -- '- 1\n- 2\n' >list.yaml
expect_error 2 "list.yaml" "$OUMI_CPP" config show -c list.yaml
head -c 4096 /dev/zero >zeros.yaml
expect_error 2 "zeros.yaml" "$OUMI_CPP" config show -c zeros.yaml
python3 -c 'print("a: " + "[" * 100000)' >deep.yaml
expect_error 2 "deep.yaml" "$OUMI_CPP" config show -c deep.yaml
printf 'a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e]\ng: &g [*f, *f, *f, *f, *f, *f, *f, *f]\nh: [*g, *g, *g, *g, *g, *g, *g, *g]\n' >laughs.yaml
expect_error 2 "laughs.yaml" timeout 20 "$OUMI_CPP" config show -c laughs.yaml
expect_error 2 "nan_policy" "$OUMI_CPP" config show -c base.yaml training.nan_policy=sometimes
expect_error 2 "gradient_accumulation_steps" "$OUMI_CPP" config show -c base.yaml training.gradient_accumulation_steps=0

CASE="check"
expect_exit 0 "$OUMI_CPP" config check -c base.yaml
expect_no_stderr
for text in "SimpleModel" "parameters" "memory" "steps: 4" "batch: images" "ln 10" "ok"; do expect_stdout "$text"; done
expect_absent out
# Refused settings: said, with exit code 2, and training refuses them as well.
expect_exit 2 "$OUMI_CPP" config check -c base.yaml data.train.collator_name=vision_language_sft
expect_stdout "refused"
expect_error 2 "collator" "$OUMI_CPP" train -c base.yaml data.train.collator_name=vision_language_sft
rm -rf out
expect_error 2 "model_kwargs" "$OUMI_CPP" config check -c base.yaml model.model_kwargs.num_clases=10
expect_stderr "num_classes"
expect_error 2 "/nowhere" "$OUMI_CPP" config check -c base.yaml data.train.datasets[0].dataset_path=/nowhere

report_and_exit
