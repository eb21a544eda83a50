// Text folders: IMDB's layout, seeded splits, bytes, bad folders.
#include "ecoformer/data/text.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "data/expect_error.h"
#include "data/temp_folder.h"

namespace ecoformer::data {
namespace {

using ::testing::ElementsAre;

std::string text_of(const Example& example) {
  std::string text;
  for (const std::int32_t token : example.tokens) text += static_cast<char>(token - 1);
  return text;
}

std::vector<std::string> texts_of(const SequenceDataset& dataset) {
  std::vector<std::string> texts;
  for (const Example& example : dataset.examples) texts.push_back(text_of(example));
  return texts;
}

void write_imdb(const TempFolder& folder) {
  folder.write("aclImdb/README", "notes");
  folder.write("aclImdb/imdb.vocab", "the");
  folder.write("aclImdb/train/urls_pos.txt", "http");
  folder.write("aclImdb/train/unsup/0_0.txt", "unlabelled");
  folder.write("aclImdb/train/neg/1_2.txt", "bad");
  folder.write("aclImdb/train/neg/0_3.txt", "awful");
  folder.write("aclImdb/train/pos/0_9.txt", "great<br />film");
  folder.write("aclImdb/test/neg/0_1.txt", "dull");
  folder.write("aclImdb/test/pos/0_10.txt", "superb");
  folder.write("aclImdb/test/pos/.DS_Store", "junk");
}

TEST(Text, EncodesBytes) {
  EXPECT_THAT(encode_bytes(std::string("a\0\xff", 3), 10), ElementsAre(98, 1, 256));
  EXPECT_THAT(encode_bytes("abc", 2), ElementsAre(98, 99));
}

TEST(Text, ReadsImdb) {
  const TempFolder folder;
  write_imdb(folder);
  const SequenceSplits splits = read_text_folder(folder.path() / "aclImdb/", {.max_length = 8});
  EXPECT_EQ(splits.train.name, "aclImdb");
  EXPECT_EQ(splits.train.vocabulary, 257);
  EXPECT_THAT(splits.train.class_names, ElementsAre("neg", "pos"));
  EXPECT_THAT(splits.test.class_names, ElementsAre("neg", "pos"));
  EXPECT_THAT(texts_of(splits.train), ElementsAre("awful", "bad", "great<br"));
  EXPECT_EQ(splits.train.examples[1].label, 0);
  EXPECT_EQ(splits.train.examples[2].label, 1);
  EXPECT_THAT(texts_of(splits.test), ElementsAre("dull", "superb"));
  EXPECT_THAT(texts_of(splits.validation), ElementsAre("dull", "superb"));
  EXPECT_TRUE(splits.validation_is_test);
}

TEST(Text, ReadsAValidationFolder) {
  const TempFolder folder;
  write_imdb(folder);
  folder.write("aclImdb/val/neg/0.txt", "n");
  folder.write("aclImdb/val/pos/0.txt", "p");
  const SequenceSplits three = read_text_folder(folder.path() / "aclImdb", {});
  EXPECT_THAT(texts_of(three.validation), ElementsAre("n", "p"));
  EXPECT_FALSE(three.validation_is_test);
  std::filesystem::remove_all(folder.path() / "aclImdb/test");
  const SequenceSplits two = read_text_folder(folder.path() / "aclImdb", {});
  EXPECT_THAT(texts_of(two.test), ElementsAre("n", "p"));
  EXPECT_TRUE(two.validation_is_test);
}

TEST(Text, SplitsClassFoldersBySeed) {
  const TempFolder folder;
  for (int i = 0; i < 20; ++i) {
    for (const char* name : {"Z", "a"}) {
      std::string text = name;
      text += std::to_string(i);
      folder.write((std::filesystem::path(name) / text).string(), text);
    }
  }
  const auto read = [&](std::uint64_t seed) {
    return read_text_folder(folder.path(),
                            {.validation_fraction = 0.1, .test_fraction = 0.2, .seed = seed});
  };
  const SequenceSplits splits = read(5);
  EXPECT_THAT(splits.train.class_names, ElementsAre("Z", "a"));  // Byte order.
  EXPECT_FALSE(splits.validation_is_test);
  std::set<std::string> all;
  std::map<const SequenceDataset*, std::size_t> per_class{
      {&splits.train, 14}, {&splits.validation, 2}, {&splits.test, 4}};
  for (const auto& [set, expected] : per_class) {
    ASSERT_EQ(set->examples.size(), 2 * expected);
    std::size_t second = 0;
    for (const Example& example : set->examples) {
      const std::string text = text_of(example);
      EXPECT_EQ(example.label, text[0] == 'a' ? 1 : 0);
      second += static_cast<std::size_t>(example.label);
      all.insert(text);
    }
    EXPECT_EQ(second, expected);
  }
  EXPECT_EQ(all.size(), 40U);
  EXPECT_EQ(texts_of(read(5).test), texts_of(splits.test));
  EXPECT_NE(texts_of(read(6).test), texts_of(splits.test));

  const SequenceSplits shared =
      read_text_folder(folder.path(), {.validation_fraction = 0, .test_fraction = 0.5});
  EXPECT_TRUE(shared.validation_is_test);
  EXPECT_EQ(texts_of(shared.validation), texts_of(shared.test));
  EXPECT_EQ(shared.test.examples.size(), 20U);
}

TEST(Text, RefusesBadFoldersByName) {
  const TempFolder folder;
  const auto refused = [](const std::filesystem::path& root,
                          std::initializer_list<std::string> parts) {
    expect_input_error([&] { read_text_folder(root, {}); }, parts);
  };
  refused(folder.path() / "missing", {"missing"});
  refused(folder.path(), {"expected class folders", folder.path().string()});
  folder.write("a/x.txt", "x");
  refused(folder.path(), {"expected enough files", (folder.path() / "a").string()});
  for (int i = 0; i < 10; ++i) folder.write("a/" + std::to_string(i), "x");
  EXPECT_NO_THROW(read_text_folder(folder.path(), {}));

  std::filesystem::create_directory(folder.path() / "empty");
  refused(folder.path(), {"class folder", (folder.path() / "empty").string()});
  std::filesystem::remove(folder.path() / "empty");

  const auto zero = folder.write("a/zero.txt", "");
  refused(folder.path(), {zero.string(), "empty file"});
  std::filesystem::remove(zero);

  // A file that cannot be opened by anyone, root included.
  std::filesystem::create_symlink("nowhere", folder.path() / "a/dangling");
  refused(folder.path(), {"readable file", "dangling"});
}

TEST(Text, RefusesSplitsThatDisagree) {
  const auto refused = [](const TempFolder& folder, std::initializer_list<std::string> parts) {
    expect_input_error([&] { read_text_folder(folder.path() / "aclImdb", {}); }, parts);
  };
  const TempFolder folder;
  write_imdb(folder);
  folder.write("aclImdb/test/so_so/0.txt", "so");
  refused(folder, {"[neg, pos], got [neg, pos, so_so]"});
  std::filesystem::remove_all(folder.path() / "aclImdb/test/so_so");
  folder.write("aclImdb/validation/neg/0.txt", "n");
  refused(folder, {"got validation"});
  std::filesystem::remove_all(folder.path() / "aclImdb/validation");
  EXPECT_NO_THROW(read_text_folder(folder.path() / "aclImdb", {}));
  std::filesystem::remove_all(folder.path() / "aclImdb/test");
  refused(folder, {"test or val", "hint"});
}

TEST(Text, RefusesOptionsOutOfRange) {
  const TempFolder folder;
  for (int i = 0; i < 10; ++i) folder.write("a/" + std::to_string(i), "x");
  const auto refused = [&](const TextFolderOptions& options) {
    expect_input_error([&] { read_text_folder(folder.path(), options); }, {"expected"});
  };
  refused({.max_length = 0});
  refused({.validation_fraction = -0.1});
  refused({.validation_fraction = 0.5, .test_fraction = 0.5});
  refused({.validation_fraction = 0, .test_fraction = 0});
  refused({.test_fraction = std::nan("")});
}

}  // namespace
}  // namespace ecoformer::data
