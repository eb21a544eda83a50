// Evaluation counts sequences, however they are batched.
#include "ecoformer/train/evaluate.h"

#include <cmath>

#include "train/toy.h"

namespace ecoformer::train {
namespace {

/// For the whole program: teams of threads only slow models this small down, and much where tests
/// run in parallel.
class OneThread : public ::testing::Environment {
 public:
  void SetUp() override { at::set_num_threads(1); }
};

const auto* const kOneThread = ::testing::AddGlobalTestEnvironment(new OneThread);

TEST(Evaluate, DependsNeitherOnBatchesNorThreads) {
  const data::SequenceDataset dataset = toy_data(41, 1);
  const auto model = toy_model("softmax", 2);
  model->train();
  const auto evaluate_with = [&](std::int64_t batch_size, bool bucket, std::int64_t workers) {
    data::SequenceLoader loader(
        dataset,
        {.batch_size = batch_size, .shuffle = false, .bucket = bucket, .workers = workers});
    return evaluate(*model, loader);
  };
  const Evaluation one = evaluate_with(1, false, 0);
  EXPECT_EQ(one.examples, 41);
  std::int64_t tokens = 0;
  for (const auto& example : dataset.examples) tokens += std::ssize(example.tokens);
  EXPECT_EQ(one.tokens, tokens);
  EXPECT_EQ(one.standard_error, std::sqrt(one.accuracy * (1 - one.accuracy) / 41));
  EXPECT_TRUE(model->is_training());

  const Evaluation bucketed = evaluate_with(7, true, 0);
  at::set_num_threads(2);
  const Evaluation threaded = evaluate_with(41, false, 3);
  at::set_num_threads(1);
  for (const Evaluation& other : {bucketed, threaded}) {
    EXPECT_EQ(other.accuracy, one.accuracy);
    EXPECT_EQ(other.examples, one.examples);
    EXPECT_EQ(other.tokens, one.tokens);
    // Logits of order 1 through two float32 layers: a few hundred roundings of 6e-8.
    EXPECT_NEAR(other.loss, one.loss, 1e-5);
  }
}

}  // namespace
}  // namespace ecoformer::train
