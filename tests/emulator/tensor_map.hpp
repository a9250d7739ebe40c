// Tensor maps: what cuTensorMapEncodeTiled (driver.cpp) writes into the 128 opaque bytes, and which bytes of shared and
// global memory a bulk copy of a box then moves (bulk.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace emulator {

/// Of CUtensorMapDataType.
enum class Element : std::uint8_t { u8, u16, u32, s32, u64, s64, f16, f32, f64, bf16, f32_ftz, tf32, tf32_ftz };
unsigned bytes_of(Element e);

constexpr int most_rank = 5;

/// The 128 bytes of a CUtensorMap, as this emulator fills them.
struct TensorMap {
  std::uint64_t mark;
  std::uint64_t base;
  std::uint64_t strides[most_rank - 1];  ///< In bytes, of all dimensions but the innermost.
  std::uint32_t last[most_rank];         ///< Sizes less one, innermost first.
  std::uint16_t box[most_rank];
  std::uint8_t steps[most_rank];  ///< elementStrides.
  Element element;
  std::uint8_t rank, swizzle, fill_nan;
  std::uint8_t unused[128 - 8 - 8 - 32 - 20 - 10 - 5 - 4];
};
static_assert(sizeof(TensorMap) == 128, "CUtensorMap has 128 bytes");

/// Fills `map` as cuTensorMapEncodeTiled would. Returns what is wrong with the arguments, or nothing.
std::string encode(TensorMap& map, int element, unsigned rank, const void* base, const std::uint64_t* sizes,
                   const std::uint64_t* strides, const std::uint32_t* box, const std::uint32_t* steps, int interleave,
                   int swizzle, int promotion, int fill);

/// The map at that address; fails where none is.
const TensorMap& map_at(const void* p, int rank);

/// Bytes of the box in shared memory.
unsigned box_bytes(const TensorMap& map);

/// Consecutive elements of a box: where they lie in the tensor (null: outside) and in the box.
struct Piece {
  char* global;
  unsigned at, bytes;
};
/// The box at those coordinates as pieces that lie wholly within the tensor or wholly outside.
std::vector<Piece> pieces_of(const TensorMap& map, const int* at);

/// Where byte `at` of a box that begins at a shared-memory address lies.
unsigned placed(const TensorMap& map, unsigned address, unsigned at);

}  // namespace emulator
