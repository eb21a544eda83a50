// Batches of pictures, decoded and transformed by worker threads.
#pragma once

#include <cstdint>

#include "ecoformer/data/image_dataset.h"
#include "ecoformer/data/image_transforms.h"
#include "ecoformer/data/loader.h"

namespace ecoformer::data {

struct ImageLoaderOptions {
  std::int64_t batch_size = 32;
  /// Height and width of a model's input.
  std::int64_t image_size = 224;
  /// A new random order every epoch; otherwise the order of the data set.
  bool shuffle = true;
  std::uint64_t seed = 0;
  /// The recipe's training augmentation: random resized crop (up to kCifarSize a random crop of the
  /// picture framed by 4 pixels), flip, RandAugment, random erasing. Otherwise the evaluation view.
  bool augment = true;
  EvaluationCrop crop = EvaluationCrop::kAuthors;
  /// How often a picture occurs in an epoch, each time augmented otherwise. Above 1 an epoch is as
  /// long as with 1, and so made from fewer pictures (the recipe's repeated augmentation, 3).
  std::int64_t repeats = 1;
  /// Mixup or CutMix of every batch; its `targets` are then smoothed by `label_smoothing`, which is
  /// not used otherwise.
  bool mix = false;
  double label_smoothing = 0.1;
  /// Leaves out the last pictures of the order where they do not fill a batch.
  bool drop_last = false;
  /// Refuses a batch with a picture that cannot be read; otherwise the picture is left out of it
  /// and Batch::skipped says why.
  bool strict = false;
  /// Threads that prepare batches ahead; 0 prepares each batch inside next().
  std::int64_t workers = 2;
};

/// Loads batches of pictures, normalised (see normalize): `inputs` is float32 [B, 3, S, S]. How a
/// picture is augmented depends on the seed, the epoch, its index and its repeat alone, how a batch
/// is mixed on the seed, the epoch and its number alone.
class ImageLoader : public Loader {
 public:
  /// Throws InputError for options out of range, a data set too small for one batch, and labels
  /// without a class; next() throws it in place of a batch none of whose pictures can be read, and
  /// where a picture does not fit an image size up to kCifarSize.
  ImageLoader(ImageDataset dataset, const ImageLoaderOptions& options);
};

}  // namespace ecoformer::data
