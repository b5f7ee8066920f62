// The page's second listing: the same model through the Hugging Face-style Trainer.
//   build/release/examples/03_hf_trainer [max_steps]
// Expected: the training loss falls below 0.9 in 300 steps.
#include <oumi/models/simple_model/simple_model.h>
#include <oumi/oumi.h>

#include <cstdlib>
#include <iostream>

using oumi::SimpleModel;

int main(int argc, char** argv) {
  try {
    auto dataset = oumi::build_dataset(oumi::DatasetParams{.dataset_name = "fashion_mnist", .split = "train[:2000]"});

    auto model = oumi::make_model<SimpleModel>();

    // Define the training arguments.
    oumi::TrainingArguments args{
        .output_dir = "./results",
        .num_train_epochs = 10,
        .per_device_train_batch_size = 16,
        .per_device_eval_batch_size = 64,
        .warmup_steps = 500,
        .weight_decay = 0.01,
        .logging_dir = "./logs",
        .logging_steps = 10,
    };
    if (argc > 1) args.max_steps = std::atoll(argv[1]);

    // Instantiate the trainer.
    oumi::Trainer trainer({
        .model = model,            // the instantiated model to be trained
        .args = args,              // training arguments
        .train_dataset = dataset,  // training dataset
        .eval_dataset = dataset,   // evaluation dataset
    });

    // Train the model.
    trainer.train();
    for (const auto& [name, value] : trainer.evaluate()) std::cout << name << ": " << value << '\n';
    return 0;
  } catch (const std::exception& error) {
    std::cerr << oumi::describe(error) << '\n';
    return oumi::exit_code_for(error);
  }
}
