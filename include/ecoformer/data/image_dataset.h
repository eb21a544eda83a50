// Labelled pictures: ImageNet's layout of class folders, and CIFAR's binary files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "ecoformer/data/image.h"

namespace ecoformer::data {

/// A set of pictures over one list of classes. Copies share the pictures.
struct ImageDataset {
  std::string name = {};
  std::vector<std::string> class_names = {};
  /// The class of each picture, an index of `class_names`.
  std::vector<std::int64_t> labels = {};
  /// The RGB picture at an index of `labels`. Several threads call it at once. Throws InputError
  /// where the picture cannot be read.
  std::function<Image(std::int64_t)> image = {};
};

/// The three sets of a task.
struct ImageSplits {
  ImageDataset train = {};
  ImageDataset validation = {};
  ImageDataset test = {};
  /// True where the source holds only one held-out set, so that `validation` and `test` are the
  /// same pictures and the selected accuracy is optimistic; reports have to say so.
  bool validation_is_test = false;
};

/// ImageNet's layout: `train/<class>/<file>` and `val/<class>/<file>`, and `test/<class>/<file>`
/// where there is such a folder; otherwise `val` serves as the test set too. Classes are numbered
/// in the byte order of their names, files are listed in the byte order of theirs and opened when
/// they are asked for, so that one that is no picture is an error of that picture alone. Names that
/// start with a dot, files beside the class folders and folders inside them are ignored. Throws
/// InputError naming the path: a missing split, no class folders, classes that differ between
/// splits, a class without files.
ImageSplits read_image_folder(const std::filesystem::path& root);

/// CIFAR-10's binary version: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, in
/// memory. The test set serves for validation too. Class names are the lines of
/// `batches.meta.txt`, or the numbers where there is no such file. Throws InputError naming the
/// file: unreadable, not a whole number of records, more than a million of them, a label or a
/// number of names out of range.
ImageSplits read_cifar10(const std::filesystem::path& folder);

/// CIFAR-100's binary version: `train.bin` and `test.bin`, labelled by the fine classes, whose
/// names are the lines of `fine_label_names.txt`. Otherwise as read_cifar10.
ImageSplits read_cifar100(const std::filesystem::path& folder);

}  // namespace ecoformer::data
