// A plug-in for tests/distributed/sharded_custom_models.sh: a model of one's own, with initial values of its own, a tied weight
// and a table beside its parameters.
#include <ATen/ops/arange.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/relu.h>
#include <oumi/oumi.h>
#include <torch/nn/init.h>

#include <cstdlib>

namespace {

class DeepBlockImpl : public oumi::Module {
 public:
  explicit DeepBlockImpl(std::int64_t width) {
    linear = register_module("linear", oumi::nn::Linear(width, width));
    torch::nn::init::xavier_normal_(linear->weight, 0.5);
    mix = register_parameter("mix", at::randn({width, width}) * 0.01);
  }
  oumi::Tensor forward(const oumi::Tensor& hidden) { return hidden + at::relu(linear(hidden)).matmul(mix); }

  oumi::nn::Linear linear{nullptr};
  oumi::Tensor mix;
};
OUMI_MODULE(DeepBlock);

// Kwargs: width, layers, by_hand (false): the constructor looks into a weight's memory; on_rank_1: what it does there alone,
// "other" values or, to have them, a look at one ("look").
class DeepModel : public oumi::Model {
 public:
  explicit DeepModel(const oumi::Kwargs& kwargs) {
    const auto width = kwargs.get<std::int64_t>("width", 160), layers = kwargs.get<std::int64_t>("layers", 4);
    stem = register_module("stem", oumi::nn::Linear(784, width));
    for (std::int64_t i = 0; i < layers; ++i) blocks.push_back(register_module("block" + std::to_string(i), DeepBlock(width)));
    after = register_module("after", oumi::nn::Linear(784, width));
    after->share_weight(stem->weight);
    after->register_parameter("weight", stem->weight);
    table = register_buffer("table", at::arange(100 * width).view({100, width}).sin() * 0.1);
    head = register_module("head", oumi::nn::Linear(width, 10));
    const auto on_rank_1 = kwargs.get<std::string>("on_rank_1", "");
    const char* rank = std::getenv("RANK");
    if (!on_rank_1.empty() && rank != nullptr && std::string(rank) == "1") {
      const at::NoGradGuard no_grad;
      blocks[0]->mix.mul_(on_rank_1 == "look" ? blocks[0]->mix[0][0].item<double>() : 7.0);
    }
    if (kwargs.get<bool>("by_hand", false) && !(stem->weight.data_ptr<float>()[5] < 100)) throw std::runtime_error("no weight");
  }

  oumi::Outputs forward(const oumi::Batch& batch) override {
    const oumi::Tensor pixels = batch.at("images").flatten(1);
    oumi::Tensor hidden = stem(pixels);
    for (DeepBlock& block : blocks) hidden = block(hidden);
    const oumi::Tensor outputs = head(hidden + after(pixels) + table[7]);
    const oumi::Tensor* labels = batch.find("labels");
    return {{"outputs", outputs}, {"loss", labels ? criterion()(outputs, *labels) : oumi::Tensor()}};
  }

 private:
  oumi::nn::Linear stem{nullptr}, after{nullptr}, head{nullptr};
  std::vector<DeepBlock> blocks;
  oumi::Tensor table;
};

}  // namespace

OUMI_PLUGIN { oumi::register_model<DeepModel>(); }
