// Asserts that a statement throws an InputError whose message holds every given part.
#pragma once

#include <gmock/gmock.h>

#include <initializer_list>
#include <string>

#include "ecoformer/base/error.h"

namespace ecoformer::data {

template <typename Statement>
void expect_input_error(Statement statement, std::initializer_list<std::string> parts) {
  try {
    statement();
    ADD_FAILURE() << "no InputError was thrown";
  } catch (const InputError& error) {
    for (const std::string& part : parts) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr(part));
    }
  }
}

}  // namespace ecoformer::data
