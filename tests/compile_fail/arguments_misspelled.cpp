// Must not compile: there is no field num_train_epoch.
#include "oumi/trainer/training_arguments.h"

oumi::TrainingArguments page() { return oumi::TrainingArguments{.output_dir = "./results", .num_train_epoch = 10}; }
