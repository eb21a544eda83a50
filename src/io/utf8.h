// Whether bytes are text, so that names and reports can be written as JSON.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace ecoformer::io {

/// Whether `text` is well-formed UTF-8 (table 3-7 of the Unicode standard: no overlong forms, no
/// surrogates, nothing above U+10FFFF).
inline bool is_utf8(std::string_view text) {
  // First byte up to `last`: `length` bytes in all, the second in [low, high], others in [80, BF].
  struct Form {
    unsigned char last;
    std::size_t length;
    unsigned char low, high;
  };
  constexpr std::array<Form, 10> kForms{{{0x7F, 1, 0, 0},
                                         {0xC1, 0, 0, 0},
                                         {0xDF, 2, 0x80, 0xBF},
                                         {0xE0, 3, 0xA0, 0xBF},
                                         {0xEC, 3, 0x80, 0xBF},
                                         {0xED, 3, 0x80, 0x9F},
                                         {0xEF, 3, 0x80, 0xBF},
                                         {0xF0, 4, 0x90, 0xBF},
                                         {0xF3, 4, 0x80, 0xBF},
                                         {0xF4, 4, 0x80, 0x8F}}};
  while (!text.empty()) {
    const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const auto* form = std::find_if(kForms.begin(), kForms.end(),
                                    [&byte](const Form& f) { return byte(0) <= f.last; });
    if (form == kForms.end() || form->length == 0 || text.size() < form->length) return false;
    for (std::size_t i = 1; i < form->length; ++i) {
      const unsigned char low = i == 1 ? form->low : 0x80;
      const unsigned char high = i == 1 ? form->high : 0xBF;
      if (byte(i) < low || byte(i) > high) return false;
    }
    text.remove_prefix(form->length);
  }
  return true;
}

}  // namespace ecoformer::io
