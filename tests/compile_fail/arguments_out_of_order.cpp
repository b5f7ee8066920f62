// Must not compile: num_train_epochs stands before output_dir, which is declared first.
#include "oumi/trainer/training_arguments.h"

oumi::TrainingArguments page() { return oumi::TrainingArguments{.num_train_epochs = 10, .output_dir = "./results"}; }
