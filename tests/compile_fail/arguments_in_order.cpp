// The Hugging Face-style listing: its eight fields in its order. Must compile.
#include "oumi/trainer/training_arguments.h"

oumi::TrainingArguments page() {
  return {.output_dir = "./results",
          .num_train_epochs = 10,
          .per_device_train_batch_size = 16,
          .per_device_eval_batch_size = 64,
          .warmup_steps = 500,
          .weight_decay = 0.01,
          .logging_dir = "./logs",
          .logging_steps = 10};
}

oumi::TrainingArguments some_of_them() {
  return {.num_train_epochs = 10, .logging_steps = 10, .learning_rate = 1e-3, .seed = 7};
}

// In any order.
oumi::TrainingArguments by_setters() {
  return oumi::TrainingArguments()
      .with(&oumi::TrainingArguments::seed, 7)
      .with(&oumi::TrainingArguments::output_dir, "./results");
}
