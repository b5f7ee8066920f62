// Trains the model from a program of your own: build/custom_model_train config.yaml [key=value ...]
#include <oumi/trainer/from_config.h>

#include <iostream>

#include "custom_model.h"

int main(int argc, char** argv) {
  try {
    if (argc < 2)
      throw oumi::UserError("command line", "expected a config file, got none",
                            "custom_model_train config.yaml [key=value ...]");
    oumi::register_model<CustomModel>();
    const oumi::TrainingConfig config = oumi::load_config(argv[1], {argv + 2, argv + argc});
    const oumi::TrainOutput output = oumi::train_from_config(config, {.overwrite = true});
    std::cout << "trained " << output.global_step << " steps, mean loss " << output.training_loss << '\n';
    return 0;
  } catch (const std::exception& error) {
    std::cerr << oumi::describe(error) << '\n';
    return oumi::exit_code_for(error);
  }
}
