// The page's first listing: the training loop, written out. Nothing is hidden.
//   build/release/examples/01_training_loop configs/simple_model_fashion_mnist.yaml training.max_steps=300
// Expected: the loss falls from 2.3 to below 0.8 in 300 steps.
#include <oumi/models/simple_model/simple_model.h>
#include <oumi/optim/optimizer.h>
#include <oumi/oumi.h>

#include <iostream>

int main(int argc, char** argv) {
  try {
    // The config defines everything; it is immutable and serializable.
    const std::vector<std::string> overrides(argv + std::min(argc, 2), argv + argc);
    const oumi::TrainingConfig config =
        oumi::load_config(argc > 1 ? argv[1] : "configs/simple_model_fashion_mnist.yaml", overrides);
    at::manual_seed(static_cast<std::uint64_t>(config.training.seed));
    const c10::Device device = at::kCPU;

    auto model = oumi::make_model<oumi::SimpleModel>();
    const auto optimizer =
        oumi::make_optimizer({.learning_rate = config.training.learning_rate}, oumi::make_parameter_groups(*model, {}));

    auto dataset = oumi::build_dataset(config.data.train);  // map-style and/or iterable; streamed or in memory
    const oumi::Sample sample = dataset->get(0);            // preprocessed: inputs and, optionally, labels
    std::cout << "images " << sample.at("images").sizes() << ", label " << sample.at("labels").item<std::int64_t>() << '\n';

    oumi::Json loader_kwargs = config.data.train.dataloader_kwargs;
    loader_kwargs["batch_size"] = config.training.per_device_train_batch_size;
    loader_kwargs["shuffle"] = true;
    oumi::DataLoader loader(dataset, loader_kwargs);
    std::int64_t step = 0;
    for (oumi::Batch batch : loader) {
      optimizer->zero_grad();
      batch = batch.to(device);
      const oumi::Outputs outputs = model->forward(batch);  // dict-like: outputs.at("outputs"), outputs.loss()
      outputs.loss().backward();
      optimizer->step();
      if (++step % 50 == 0) std::cout << "step " << step << " loss " << outputs.loss().item<double>() << '\n';
      if (config.training.max_steps > 0 && step >= config.training.max_steps) break;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << oumi::describe(error) << '\n';
    return oumi::exit_code_for(error);
  }
}
