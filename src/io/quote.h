// Names from files in messages: short and printable, whatever the file holds.
#pragma once

#include <string>
#include <string_view>

namespace ecoformer::io {

/// `text` in quotes, cut after 100 bytes, control characters replaced by '?'.
inline std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 100;
  std::size_t length = text.size();
  if (length > kLongest) {
    length = kLongest;
    // Not in the middle of a UTF-8 character.
    while (length > 0 && (static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  }
  std::string result = "'";
  for (const char c : text.substr(0, length)) {
    const auto byte = static_cast<unsigned char>(c);
    result += byte < 0x20 || byte == 0x7F ? '?' : c;
  }
  return result + (length < text.size() ? "...'" : "'");
}

}  // namespace ecoformer::io
