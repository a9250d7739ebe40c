// SHA-256 against the values of FIPS 180-4's examples, and fed in pieces of every length.
#include "jit/digest.hpp"

#include <gtest/gtest.h>

namespace upconv::jit {
namespace {

TEST(Digests, Examples) {
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(to_hex(sha256(std::string(1000000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Digests, PiecesDoNotMatter) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (std::size_t size = 0; size <= text.size(); ++size) {
    const std::string_view whole = std::string_view(text).substr(0, size);
    Sha256 pieces;
    for (std::size_t at = 0, n = 1; at < size; at += n, n = n % 67 + 1) pieces.bytes(whole.substr(at, n));
    EXPECT_EQ(pieces.digest(), sha256(whole)) << size;
  }
}

TEST(Digests, FieldsKeepTheirBorders) {
  EXPECT_NE(Sha256{}.field("ab").field("c").digest(), Sha256{}.field("a").field("bc").digest());
  EXPECT_NE(Sha256{}.field("").field("a").digest(), Sha256{}.field("a").digest());
}

}  // namespace
}  // namespace upconv::jit
