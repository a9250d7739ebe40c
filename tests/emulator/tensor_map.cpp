// See tensor_map.hpp.
#include "emulator/tensor_map.hpp"

#include <algorithm>
#include <cstring>

#include "emulator/runtime.hpp"

namespace emulator {
namespace {

constexpr std::uint64_t mark = 0x70616d726f736e65ull;

enum Swizzle { none, of_32, of_64, of_128 };

}  // namespace

unsigned bytes_of(Element e) {
  constexpr unsigned bytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  return bytes[static_cast<int>(e)];
}

std::string encode(TensorMap& map, int element, unsigned rank, const void* base, const std::uint64_t* sizes,
                   const std::uint64_t* strides, const std::uint32_t* box, const std::uint32_t* steps, int interleave,
                   int swizzle, int promotion, int fill) {
  const auto in_words = [](const char* what, unsigned i, std::uint64_t value) {
    return std::string(what) + "[" + std::to_string(i) + "] = " + std::to_string(value);
  };
  if (reinterpret_cast<std::uintptr_t>(&map) % 64) return "the map is not aligned to 64 bytes";
  if (element < 0 || element > static_cast<int>(Element::tf32_ftz))
    return "tensorDataType " + std::to_string(element) + " is none the emulator knows";
  if (rank < 1 || rank > most_rank) return "tensorRank is " + std::to_string(rank);
  if (interleave != 0) return "the emulator knows CU_TENSOR_MAP_INTERLEAVE_NONE only";
  if (swizzle < none || swizzle > of_128) return "swizzle " + std::to_string(swizzle) + " is none the emulator knows";
  if (promotion < 0 || promotion > 3 || fill < 0 || fill > 1) return "no such l2Promotion or oobFill";
  if (!base || reinterpret_cast<std::uintptr_t>(base) % 16) return "globalAddress is not a multiple of 16 bytes";
  const auto kind = static_cast<Element>(element);
  const unsigned bytes = bytes_of(kind);
  map = {};
  map.mark = mark;
  map.base = reinterpret_cast<std::uintptr_t>(base);
  map.element = kind;
  map.rank = static_cast<std::uint8_t>(rank);
  map.swizzle = static_cast<std::uint8_t>(swizzle);
  map.fill_nan = static_cast<std::uint8_t>(fill);
  for (unsigned i = 0; i < rank; ++i) {
    if (sizes[i] == 0 || sizes[i] > std::uint64_t{1} << 32) return in_words("globalDim", i, sizes[i]);
    if (box[i] == 0 || box[i] > 256) return in_words("boxDim", i, box[i]);
    if (steps[i] == 0 || steps[i] > 8) return in_words("elementStrides", i, steps[i]);
    if (i > 0 && (strides[i - 1] % 16 || strides[i - 1] >= std::uint64_t{1} << 40))
      return in_words("globalStrides", i - 1, strides[i - 1]) + " is no multiple of 16 below 2^40";
    map.last[i] = static_cast<std::uint32_t>(sizes[i] - 1);
    map.box[i] = static_cast<std::uint16_t>(box[i]);
    map.steps[i] = static_cast<std::uint8_t>(i == 0 ? 1 : steps[i]);  // without interleave the first is ignored
    if (i > 0) map.strides[i - 1] = strides[i - 1];
  }
  if (box[0] * bytes % 16)
    return in_words("boxDim", 0, box[0]) + " is " + std::to_string(box[0] * bytes) + " bytes, no multiple of 16";
  const unsigned span = swizzle == none ? 0 : 16u << swizzle;
  if (span && box[0] * bytes > span)
    return in_words("boxDim", 0, box[0]) + " is more than the " + std::to_string(span) + " bytes of the swizzle";
  const bool floating = kind >= Element::f16;
  if (fill && !floating) return "oobFill with NaN of a type that has none";
  return {};
}

const TensorMap& map_at(const void* p, int rank) {
  const auto& map = *static_cast<const TensorMap*>(p);
  if (reinterpret_cast<std::uintptr_t>(p) % 64) fail("a tensor map that is not aligned to 64 bytes");
  char here = 0;
  const std::intptr_t below = static_cast<const char*>(p) - &here;
  if (below > -(64 << 10) && below < 256 << 10)
    fail("a tensor map in a thread's own memory: a parameter must be __grid_constant__");
  if (map.mark != mark) fail("what is taken for a tensor map is none");
  if (map.rank != rank)
    fail("a tensor map of rank " + std::to_string(map.rank) + " in a copy of rank " + std::to_string(rank));
  if (map.element == Element::f32_ftz || map.element == Element::tf32_ftz)
    fail("the emulator does not know what a bulk copy does to CU_TENSOR_MAP_DATA_TYPE_*_FTZ");
  return map;
}

unsigned box_bytes(const TensorMap& map) {
  unsigned n = bytes_of(map.element);
  for (int i = 0; i < map.rank; ++i) n *= (map.box[i] + map.steps[i] - 1u) / map.steps[i];
  return n;
}

std::vector<Piece> pieces_of(const TensorMap& map, const int* at) {
  const unsigned bytes = bytes_of(map.element);
  std::int64_t count[most_rank], size[most_rank];
  for (int i = 0; i < most_rank; ++i) {
    count[i] = i < map.rank ? (map.box[i] + map.steps[i] - 1) / map.steps[i] : 1;
    size[i] = i < map.rank ? std::int64_t{map.last[i]} + 1 : 1;
  }
  const std::int64_t rows = count[1] * count[2] * count[3] * count[4];
  // Of a row, what lies before, in and behind the tensor.
  const std::int64_t begin = std::clamp<std::int64_t>(-std::int64_t{at[0]}, 0, count[0]),
                     end = std::clamp<std::int64_t>(size[0] - at[0], begin, count[0]);
  std::vector<Piece> pieces;
  const auto add = [&](char* global, std::int64_t row, std::int64_t from, std::int64_t to) {
    if (to > from)
      pieces.push_back(
          {global, static_cast<unsigned>((row * count[0] + from) * bytes), static_cast<unsigned>((to - from) * bytes)});
  };
  for (std::int64_t row = 0; row < rows; ++row) {
    bool inside = true;
    char* line = reinterpret_cast<char*>(map.base);
    std::int64_t rest = row;
    for (int i = 1; i < map.rank; ++i) {
      const std::int64_t c = at[i] + rest % count[i] * map.steps[i];
      rest /= count[i];
      inside = inside && c >= 0 && c < size[i];
      if (inside) line += static_cast<std::uint64_t>(c) * map.strides[i - 1];
    }
    if (!inside) {
      add(nullptr, row, 0, count[0]);
      continue;
    }
    add(nullptr, row, 0, begin);
    add(line + (at[0] + begin) * bytes, row, begin, end);
    add(nullptr, row, end, count[0]);
  }
  return pieces;
}

unsigned placed(const TensorMap& map, unsigned address, unsigned at) {
  const unsigned linear = address + at;
  if (map.swizzle == none) return linear;
  return linear ^ ((linear >> 7 & ((1u << map.swizzle) - 1)) << 4);
}

}  // namespace emulator
