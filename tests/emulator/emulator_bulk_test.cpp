// The emulator itself, continued: bulk copies, tensor maps, transaction counts, clusters. Each thing is done as it
// should be, and wrongly in the ways that the emulator is there to show.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "emulator/toy.hpp"
#include "jit/tensor_map.hpp"
#include "ops/guarded.hpp"
#include "ops/random.hpp"

namespace {

using namespace upconv::test;

/// In front of every kernel here.
const std::string prelude = R"(typedef unsigned u32;
struct alignas(64) TensorMap { unsigned long long opaque[16]; };
__device__ __forceinline__ u32 at(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }
__device__ __forceinline__ void barrier_init(u32 b, int n) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(b), "r"(n) : "memory"); }
__device__ __forceinline__ void barrier_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void arrive(u32 b) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(b) : "memory"); }
__device__ __forceinline__ void expect(u32 b, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(b), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait(u32 b, int parity) {
  asm volatile(
      "{.reg .pred done;\n"
      "again: mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:}" ::"r"(b), "r"(parity) : "memory");
}
__device__ __forceinline__ void load(u32 to, const void* from, u32 bytes, u32 b) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(b) : "memory");
}
__device__ __forceinline__ void proxy_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ __forceinline__ void store(void* to, u32 from, u32 bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
template <int n> __device__ __forceinline__ void wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(n) : "memory"); }
template <int n> __device__ __forceinline__ void wait_written() { asm volatile("cp.async.bulk.wait_group %0;" ::"n"(n) : "memory"); }
__device__ __forceinline__ u32 cluster_rank() { u32 r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ __forceinline__ u32 cluster_size() { u32 r; asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(r)); return r; }
__device__ __forceinline__ u32 map(u32 address, u32 rank) {
  u32 r;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank));
  return r;
}
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
)";

/// What became of all orders of a kernel: how often it failed, how often `good` said no, the last failure's words.
struct Outcome {
  int failed = 0, wrong = 0;
  std::string words;
};
template <class Good>
Outcome tried(Toy& toy, unsigned threads, const std::vector<void*>& arguments, unsigned shared_bytes, Good good,
              unsigned blocks = 1, unsigned cluster = 0) {
  Outcome o;
  for (unsigned long long seed = 1; seed <= orders; ++seed) {
    const std::string words = toy.launch(threads, arguments, shared_bytes, blocks, seed, cluster);
    if (!words.empty()) {
      ++o.failed;
      o.words = words;
    } else {
      o.wrong += !good();
    }
  }
  return o;
}
#define EXPECT_GOOD(outcome)                                          \
  do {                                                                \
    const Outcome outcome_ = (outcome);                               \
    EXPECT_EQ(outcome_.failed + outcome_.wrong, 0) << outcome_.words; \
  } while (false)
#define EXPECT_FAILS(outcome, part)                                            \
  do {                                                                         \
    const Outcome outcome_ = (outcome);                                        \
    EXPECT_EQ(outcome_.failed, int(orders)) << outcome_.words;                 \
    EXPECT_NE(outcome_.words.find(part), std::string::npos) << outcome_.words; \
  } while (false)

/// A buffer of T whose first element is aligned to 128 bytes.
template <class T>
struct Aligned {
  explicit Aligned(std::size_t n, T fill = T{}) : memory(n + 128 / sizeof(T), fill), size(n) {
    auto p = reinterpret_cast<std::uintptr_t>(memory.data());
    data = reinterpret_cast<T*>((p + 127) / 128 * 128);
  }
  T& operator[](std::size_t i) { return data[i]; }
  std::vector<T> memory;
  std::size_t size;
  T* data;
};

// ---- loads --------------------------------------------------------------------------------------------------------

struct Load {
  const char* init = "barrier_fence();";
  const char* bytes = "1024";     ///< Of the copy,
  const char* expected = "1024";  ///< and what the barrier is told of it.
  const char* to = "0";           ///< Bytes behind where it should go, and come from.
  const char* from = "0";
  const char* wait = "wait(b, 0);";
};
/// 64 threads double 256 numbers.
Toy loading(const Load& l) {
  return Toy(prelude + R"(extern "C" __global__ void kernel(float* out, const float* from) {
  extern __shared__ __align__(128) float shared[];
  __shared__ __align__(8) unsigned long long barrier;
  const u32 b = at(&barrier);
  if (threadIdx.x == 0) {
    barrier_init(b, 1);
    )" + l.init +
             R"(
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    expect(b, )" +
             l.expected + R"();
    load(at(shared) + )" +
             l.to + R"(, reinterpret_cast<const char*>(from) + )" + l.from + ", " + l.bytes + R"(, b);
  }
  )" + l.wait +
             R"(
  for (int i = threadIdx.x; i < 256; i += 64) out[i] = 2 * shared[i];
})");
}

struct Loading {
  Aligned<float> from{256}, out{256};
  Loading() {
    for (std::size_t i = 0; i < 256; ++i) from[i] = static_cast<float>(i);
  }
  Outcome of(const Load& l) {
    Toy toy = loading(l);
    float* o = out.data;
    const float* f = from.data;
    return tried(toy, 64, {&o, &f}, 2048, [&] {
      bool good = true;
      for (std::size_t i = 0; i < 256; ++i) good = good && out[i] == 2 * static_cast<float>(i);
      return good;
    });
  }
};

TEST(EmulatorBulk, LoadsLandWhenTheirBarrierSaysSo) {
  Loading l;
  EXPECT_GOOD(l.of({}));
  EXPECT_GOOD(l.of({.init = "proxy_fence();"}));
  EXPECT_GOOD(
      l.of({.wait = "{ u32 done = 0; while (!done) asm volatile(\"{.reg .pred p; mbarrier.test_wait.parity.shared"
                    ".b64 p, [%1], 0; selp.b32 %0, 1, 0, p;}\" : \"=r\"(done) : \"r\"(b) : \"memory\"); }"}));
  const Outcome no_wait = l.of({.wait = "__syncthreads();"});
  EXPECT_GT(no_wait.wrong + no_wait.failed, 3);
}

TEST(EmulatorBulk, WrongLoadsAreTold) {
  Loading l;
  EXPECT_FAILS(l.of({.init = ""}), "whose initialisation no fence has shown");
  EXPECT_FAILS(l.of({.expected = "1040"}), "lacks 0 arrivals and 16 bytes");
  EXPECT_GT(l.of({.expected = "1008"}).failed, int(orders) / 2);
  EXPECT_FAILS(l.of({.bytes = "1000", .expected = "1000"}), "the size is no multiple of 16");
  EXPECT_FAILS(l.of({.to = "8"}), "the destination is no multiple of 16");
  EXPECT_FAILS(l.of({.from = "4"}), "the source is no multiple of 16");
  EXPECT_FAILS(l.of({.to = "1040"}), "outside shared memory");
  const Outcome left = l.of({.wait = "if (threadIdx.x == 0) return;"});
  EXPECT_GT(left.failed, 3);
  EXPECT_NE(left.words.find("before 1 bulk copies into its memory had landed"), std::string::npos) << left.words;
  Guarded tensor;
  tensor.reset(1008, Flush::back, 0, 16);
  Toy toy = loading({});
  float* o = l.out.data;
  const void* f = tensor.data();
  EXPECT_FAILS(tried(toy, 64, {&o, &f}, 2048, [] { return true; }), "an access outside every tensor");
}

TEST(EmulatorBulk, PhasesAreReused) {
  // Two stages, eight tiles: a producer warp, a consumer warp. `full` without the parity's turn reads what is not
  // there.
  const auto text = [](const char* parity, const char* release) {
    return prelude + R"(extern "C" __global__ void kernel(float* out, const float* from) {
  extern __shared__ __align__(128) float shared[];
  __shared__ __align__(8) unsigned long long full[2];
  __shared__ __align__(8) unsigned long long empty[2];
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) barrier_init(at(full + i), 1), barrier_init(at(empty + i), 32);
    barrier_fence();
  }
  __syncthreads();
  if (threadIdx.x >= 32) {
    if (threadIdx.x == 32)
      for (int tile = 0; tile < 8; ++tile) {
        const int stage = tile % 2, turn = tile / 2;
        wait(at(empty + stage), (turn & 1) ^ 1);
        expect(at(full + stage), 128);
        load(at(shared + 32 * stage), from + 32 * tile, 128, at(full + stage));
      }
  } else {
    for (int tile = 0; tile < 8; ++tile) {
      const int stage = tile % 2, turn = tile / 2;
      wait(at(full + stage), )" +
           parity + R"();
      out[32 * tile + threadIdx.x] = 2 * shared[32 * stage + (threadIdx.x ^ 1)];
      )" + release +
           R"(
    }
  }
})";
  };
  Loading l;
  const auto of = [&](const char* parity, const char* release) {
    Toy toy(text(parity, release));
    float* o = l.out.data;
    const float* f = l.from.data;
    return tried(toy, 64, {&o, &f}, 256, [&] {
      bool good = true;
      for (std::size_t i = 0; i < 256; ++i) good = good && l.out[i] == 2 * static_cast<float>(i ^ 1);
      return good;
    });
  };
  EXPECT_GOOD(of("turn & 1", "arrive(at(empty + stage));"));
  const Outcome wrong_parity = of("0", "arrive(at(empty + stage));");
  EXPECT_GT(wrong_parity.failed + wrong_parity.wrong, 4);
  const Outcome early = of("turn & 1", "arrive(at(empty + stage)); ");
  EXPECT_EQ(early.wrong, 0);
  EXPECT_FAILS(of("turn & 1", "if (threadIdx.x) arrive(at(empty + stage));"), "lacks 1 arrivals and 0 bytes");
  EXPECT_FAILS(of("turn & 1", "arrive(at(empty + stage)), arrive(at(empty + stage));"), "");
}

TEST(EmulatorBulk, CopiesOfThreadsArriveAtABarrier) {
  const auto text = [](const char* wait) {
    return prelude + R"(extern "C" __global__ void kernel(float* out, const float* from) {
  __shared__ __align__(16) float shared[64];
  __shared__ __align__(8) unsigned long long barrier;
  const u32 b = at(&barrier);
  if (threadIdx.x == 0) barrier_init(b, 64);
  __syncthreads();
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(at(shared + threadIdx.x)), "l"(from + threadIdx.x) : "memory");
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(b) : "memory");
  )" + wait +
           R"(
  out[threadIdx.x] = shared[threadIdx.x ^ 1];
})";
  };
  Aligned<float> from(64), out(64);
  for (std::size_t i = 0; i < 64; ++i) from[i] = static_cast<float>(i);
  float* o = out.data;
  const float* f = from.data;
  const auto of = [&](const char* wait) {
    Toy toy(text(wait));
    return tried(toy, 64, {&o, &f}, 0, [&] {
      bool good = true;
      for (std::size_t i = 0; i < 64; ++i) good = good && out[i] == static_cast<float>(i ^ 1);
      return good;
    });
  };
  EXPECT_GOOD(of("wait(b, 0);"));
  EXPECT_GT(of("__syncthreads();").wrong, 4);
}

// ---- tensor maps --------------------------------------------------------------------------------------------------

using Boxes = upconv::launch::TensorBoxes;
using upconv::launch::MapElement;
using upconv::launch::MapSwizzle;

struct alignas(64) Map {
  unsigned long long opaque[16];
};
Map encoded(const Boxes& b) {
  Map map;
  const std::uint64_t* sizes = reinterpret_cast<const std::uint64_t*>(b.sizes);
  const std::uint64_t* strides = reinterpret_cast<const std::uint64_t*>(b.strides);
  EXPECT_EQ(cuTensorMapEncodeTiled(&map, static_cast<int>(b.element), static_cast<unsigned>(b.rank),
                                   const_cast<void*>(b.base), sizes, strides, b.box, b.steps, 0,
                                   static_cast<int>(b.swizzle), b.promotion, 0),
            0);
  return map;
}

/// Brings one box at five coordinates to shared memory and writes it out. The map is a member of a struct.
std::string box_text(int rank, const char* parameter = "const __grid_constant__ Arguments a", int offset = 0) {
  std::string at;
  for (int i = 0; i < rank; ++i) at += (i ? ", %" : "%") + std::to_string(3 + i);
  std::string operands;
  for (int i = 0; i < rank; ++i) operands += ", \"r\"(a.at[" + std::to_string(i) + "])";
  return prelude +
         "struct Arguments { int at[5]; int bytes; TensorMap map; unsigned char* out; };\n"
         "extern \"C\" __global__ void kernel(" +
         parameter + R"() {
  extern __shared__ __align__(1024) unsigned char shared[];
  __shared__ __align__(8) unsigned long long barrier;
  const u32 b = at(&barrier);
  if (threadIdx.x == 0) {
    barrier_init(b, 1);
    barrier_fence();
    expect(b, a.bytes);
    asm volatile("cp.async.bulk.tensor.)" +
         std::to_string(rank) + R"(d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {)" + at +
         R"(}], [%2];" ::"r"(at(shared) + )" + std::to_string(offset) + R"(), "l"(&a.map), "r"(b))" + operands +
         R"( : "memory");
  }
  __syncthreads();
  wait(b, 0);
  for (int i = threadIdx.x; i < a.bytes; i += blockDim.x) a.out[i] = shared[i];
})";
}
struct BoxArguments {
  int at[5];
  int bytes;
  Map map;
  unsigned char* out;
};

TEST(EmulatorBulk, BoxesOfTensors) {
  struct Case {
    MapElement element;
    std::vector<int> size, box, step, at;
    bool padded = false;  ///< Lines of 16 bytes more than they need.
  };
  const auto f32 = MapElement::f32, bf16 = MapElement::bf16, u8 = MapElement::u8;
  for (const Case& c :
       {Case{f32, {37}, {8}, {1}, {-4}}, Case{f32, {16}, {8}, {1}, {12}}, Case{f32, {16, 5}, {4, 3}, {1, 1}, {4, 3}},
        Case{f32, {7, 5}, {8, 8}, {1, 1}, {-4, -2}, true}, Case{bf16, {24, 9}, {16, 3}, {1, 2}, {16, -1}},
        Case{u8, {64, 3, 3}, {32, 2, 3}, {1, 1, 2}, {48, 2, -1}},
        Case{f32, {8, 3, 4, 2}, {4, 2, 2, 2}, {1, 2, 3, 1}, {4, 1, -2, 1}},
        Case{bf16, {8, 3, 2, 3, 2}, {8, 3, 2, 2, 2}, {1, 1, 1, 1, 1}, {0, 0, 1, 2, -1}},
        Case{f32, {4, 4}, {4, 4}, {1, 1}, {100, 0}}}) {
    const auto rank = static_cast<int>(c.size.size());
    const int bytes = int(upconv::launch::bytes_of(c.element));
    Boxes boxes;
    boxes.element = c.element;
    long long stride = bytes, total = 0;
    std::vector<long long> strides;
    for (int d = 0; d < rank; ++d) {
      const auto k = static_cast<std::size_t>(d);
      strides.push_back(stride);
      boxes.dimension(c.size[k], stride, c.box[k], c.step[k]);
      stride *= c.size[k];
      if (d == 0) stride = (stride + 15) / 16 * 16 + (c.padded ? 16 : 0);
    }
    total = stride;
    Guarded tensor;
    tensor.reset(static_cast<std::size_t>(total), Flush::back, 0, 16);
    auto* data = static_cast<unsigned char*>(tensor.data());
    Random random(5);
    for (long long i = 0; i < total; ++i) data[i] = static_cast<unsigned char>(random.between(1, 255));
    boxes.base = data;
    ASSERT_EQ(upconv::launch::refusal_of(boxes), nullptr) << rank;
    std::vector<unsigned char> want(static_cast<std::size_t>(boxes.bytes)), out(want.size());
    for (std::size_t i = 0; i < want.size() / static_cast<std::size_t>(bytes); ++i) {
      auto rest = static_cast<long long>(i);
      long long from = 0;
      bool inside = true;
      for (std::size_t d = 0; d < c.size.size(); ++d) {
        const long long x = c.at[d] + rest % c.box[d] * c.step[d];
        rest /= c.box[d];
        inside = inside && x >= 0 && x < c.size[d];
        from += x * strides[d];
      }
      for (int k = 0; k < bytes && inside; ++k)
        want[i * static_cast<std::size_t>(bytes) + static_cast<std::size_t>(k)] = data[from + k];
    }
    BoxArguments a{{}, static_cast<int>(boxes.bytes), encoded(boxes), out.data()};
    for (std::size_t d = 0; d < c.at.size(); ++d) a.at[d] = c.at[d];
    Toy toy(box_text(rank));
    EXPECT_GOOD(tried(toy, 64, {&a}, static_cast<unsigned>(boxes.bytes), [&] { return out == want; }));
  }
}

TEST(EmulatorBulk, WrongUsesOfTensorMapsAreTold) {
  Aligned<float> tensor(64, 1.0f);
  Boxes boxes;
  boxes.base = tensor.data;
  boxes.dimension(16, 4, 8).dimension(4, 64, 2);
  std::vector<unsigned char> out(64);
  BoxArguments a{{}, 64, encoded(boxes), out.data()};
  const auto of = [&](const std::string& text) {
    Toy toy(text);
    return tried(toy, 32, {&a}, 512, [] { return true; });
  };
  EXPECT_GOOD(of(box_text(2)));
  EXPECT_FAILS(of(box_text(2, "const Arguments a")), "must be __grid_constant__");
  EXPECT_FAILS(of(box_text(3)), "a tensor map of rank 2 in a copy of rank 3");
  EXPECT_FAILS(of(box_text(2, "const __grid_constant__ Arguments a", 64)), "the destination is no multiple of 128");
  a.bytes = 128;
  EXPECT_FAILS(of(box_text(2)), "lacks 0 arrivals and 64 bytes");
  a.bytes = 64;
  a.at[0] = 1;
  EXPECT_FAILS(of(box_text(2)), "the first column is no multiple of 16 bytes");
  a.at[0] = 0;
  a.map.opaque[0] = 7;
  EXPECT_FAILS(of(box_text(2)), "what is taken for a tensor map is none");
}

TEST(EmulatorBulk, TheRulesOfTensorMaps) {
  Aligned<float> tensor(64);
  const auto boxes = [&](auto&&... change) {
    Boxes b;
    b.base = tensor.data;
    b.dimension(16, 4, 8).dimension(4, 64, 2);
    (change(b), ...);
    return b;
  };
  const auto refused = [](const Boxes& b) {
    Map map;
    const int error = cuTensorMapEncodeTiled(&map, int(b.element), unsigned(b.rank), const_cast<void*>(b.base),
                                             reinterpret_cast<const std::uint64_t*>(b.sizes),
                                             reinterpret_cast<const std::uint64_t*>(b.strides), b.box, b.steps, 0,
                                             int(b.swizzle), b.promotion, 0);
    const char* words = "";
    if (error) cuGetErrorString(error, &words);
    EXPECT_EQ(error != 0, upconv::launch::refusal_of(b) != nullptr) << words;
    return std::string(words);
  };
  EXPECT_EQ(refused(boxes()), "");
  const auto told = [&](auto change, const char* part) {
    const std::string words = refused(boxes(change));
    EXPECT_NE(words.find(part), std::string::npos) << words << " (" << part << ")";
  };
  told([&](Boxes& b) { b.base = reinterpret_cast<const char*>(tensor.data) + 4; }, "globalAddress");
  told([](Boxes& b) { b.base = nullptr; }, "globalAddress");
  told([](Boxes& b) { b.sizes[1] = 0; }, "globalDim[1] = 0");
  told([](Boxes& b) { b.sizes[0] = (1ull << 32) + 1; }, "globalDim[0]");
  told([](Boxes& b) { b.strides[0] = 72; }, "globalStrides[0] = 72");
  told([](Boxes& b) { b.strides[0] = 1ull << 40; }, "globalStrides[0]");
  told([](Boxes& b) { b.box[1] = 257; }, "boxDim[1] = 257");
  told([](Boxes& b) { b.box[0] = 6; }, "24 bytes, no multiple of 16");
  told([](Boxes& b) { b.steps[1] = 9; }, "elementStrides[1] = 9");
  told([](Boxes& b) { b.rank = 6; }, "tensorRank is 6");
  told([](Boxes& b) { b.rank = 0; }, "tensorRank is 0");
  told([](Boxes& b) { b.box[0] = 64, b.swizzle = MapSwizzle::bytes_128; }, "bytes of the swizzle");
  struct {
    alignas(64) char before[8];
    unsigned long long map[16];
  } apart;
  const Boxes b = boxes();
  EXPECT_NE(cuTensorMapEncodeTiled(apart.map, 7, 2, tensor.data, reinterpret_cast<const std::uint64_t*>(b.sizes),
                                   reinterpret_cast<const std::uint64_t*>(b.strides), b.box, b.steps, 0, 0, 2, 0),
            0);
}

TEST(EmulatorBulk, TheLibraryMakesTensorMaps) {
  setenv("UPCONV_CUDA_DRIVER", UPCONV_EMULATOR, 1);
  Aligned<float> tensor(64, 3.0f);
  Boxes boxes;
  boxes.base = tensor.data;
  boxes.dimension(14, 4, 4).dimension(4, 64, 2, 2);
  const auto made = upconv::jit::encode_tensor_map(0, boxes);
  ASSERT_TRUE(made.ok()) << made.status().message();
  std::vector<unsigned char> out(32);
  BoxArguments a{{12, 2}, 32, {}, out.data()};
  std::memcpy(&a.map, &*made, sizeof a.map);
  Toy toy(box_text(2));
  EXPECT_GOOD(tried(toy, 32, {&a}, 32, [&] {
    float v[8];
    std::memcpy(v, out.data(), 32);
    return v[0] == 3 && v[1] == 3 && v[2] == 0 && v[3] == 0 && v[4] == 0;
  }));
  boxes.strides[0] = 68;
  const auto refused = upconv::jit::encode_tensor_map(0, boxes);
  EXPECT_NE(refused.status().message().find("no multiple of 16 bytes"), std::string::npos)
      << refused.status().message();
}

// ---- stores -------------------------------------------------------------------------------------------------------

/// A block writes its 64 numbers twice through the same 256 bytes of shared memory.
std::string storing(const char* fence, const char* between, const char* end) {
  return prelude + R"(extern "C" __global__ void kernel(float* out) {
  extern __shared__ __align__(128) float shared[];
  for (int turn = 0; turn < 2; ++turn) {
    shared[threadIdx.x] = 100 * turn + threadIdx.x;
    )" + fence +
         R"(
    __syncthreads();
    if (threadIdx.x == 0) {
      store(out + 64 * turn, at(shared), 256);
      commit();
      )" +
         between + R"(
    }
    __syncthreads();
  }
  )" + end +
         R"(
})";
}

TEST(EmulatorBulk, StoresReadAndWriteWhenWaitedFor) {
  Aligned<float> out(128);
  float* o = out.data;
  const auto of = [&](const std::string& text) {
    Toy toy(text);
    return tried(toy, 64, {&o}, 256, [&] {
      bool good = true;
      for (std::size_t i = 0; i < 128; ++i) good = good && out[i] == static_cast<float>(100 * (i / 64) + i % 64);
      std::fill(out.memory.begin(), out.memory.end(), -1.0f);
      return good;
    });
  };
  EXPECT_GOOD(of(storing("proxy_fence();", "wait_read<0>();", "")));
  EXPECT_GOOD(of(storing("proxy_fence();", "wait_written<0>();", "")));
  EXPECT_GT(of(storing("proxy_fence();", "", "if (threadIdx.x == 0) wait_written<0>();")).wrong, 4);
  EXPECT_GT(of(storing("proxy_fence();", "wait_read<1>();", "if (threadIdx.x == 0) wait_written<0>();")).wrong, 4);
  EXPECT_GT(of(storing("", "wait_read<0>();", "")).wrong, 0) << "no fence between what threads wrote and the copy";
  const Outcome forgotten = of(storing("proxy_fence();", "if (turn == 0) wait_read<0>();", ""));
  EXPECT_GT(forgotten.failed, 4);
  EXPECT_NE(forgotten.words.find("before its bulk stores were waited for"), std::string::npos) << forgotten.words;
  // What comes after must see global memory written: it reads its own result.
  EXPECT_GT(of(storing("proxy_fence();", "wait_read<0>(); out[64 * turn] = out[64 * turn] + 1;", "")).wrong, 2);
}

TEST(EmulatorBulk, StoresOfBoxesEndAtTheTensor) {
  Toy toy(prelude + R"(extern "C" __global__ void kernel(const __grid_constant__ TensorMap map, int x, int y) {
  extern __shared__ __align__(128) float shared[];
  shared[threadIdx.x] = threadIdx.x;
  proxy_fence();
  __syncthreads();
  if (threadIdx.x == 0) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(&map), "r"(x), "r"(y), "r"(at(shared)) : "memory");
    commit();
    wait_read<0>();
  }
})");
  Aligned<float> tensor(12 * 6, -1.0f);
  Boxes boxes;
  boxes.base = tensor.data;
  boxes.dimension(10, 4, 8).dimension(5, 48, 4);
  Map map = encoded(boxes);
  int x = 5, y = -1;
  EXPECT_GOOD(tried(toy, 32, {&map, &x, &y}, 128, [&] {
    bool good = true;
    for (int r = 0; r < 6; ++r)
      for (int c = 0; c < 12; ++c) {
        const bool inside = r < 3 && c >= 5 && c < 10;
        good = good && tensor[static_cast<std::size_t>(12 * r + c)] == (inside ? float((r + 1) * 8 + c - 5) : -1.0f);
      }
    return good;
  }));
}

// ---- operands of wgmma --------------------------------------------------------------------------------------------

/// Both operands by bulk copies: 64 x 32 bf16 of a, 16 x 32 of b, with the swizzle of their width.
TEST(EmulatorBulk, ProductsReadWhatWasSwizzled) {
  for (const MapSwizzle swizzle : {MapSwizzle::bytes_32, MapSwizzle::bytes_64, MapSwizzle::bytes_128}) {
    const int span = 16 << int(swizzle), depth = span / 2;
    Toy toy(prelude + "constexpr int span = " + std::to_string(span) + ";\n" +
            R"(__device__ __forceinline__ unsigned long long descriptor(u32 address) {
  return static_cast<unsigned long long>(address & 0x3ffff) >> 4 | 1ull << 16 | static_cast<unsigned long long>(8 * span >> 4) << 32 |
         (span == 128 ? 1ull : span == 64 ? 2ull : 3ull) << 62;
}
extern "C" __global__ void kernel(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b, float* out) {
  extern __shared__ __align__(1024) unsigned char shared[];
  __shared__ __align__(8) unsigned long long barrier;
  const u32 b = at(&barrier), a_at = at(shared), b_at = a_at + 64 * span;
  if (threadIdx.x == 0) {
    barrier_init(b, 1);
    barrier_fence();
    expect(b, 80 * span);
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %3}], [%2];" ::"r"(a_at), "l"(&map_a), "r"(b), "r"(0) : "memory");
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %3}], [%2];" ::"r"(b_at), "l"(&map_b), "r"(b), "r"(0) : "memory");
  }
  __syncthreads();
  wait(b, 0);
  float s[8] = {};
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  for (int k = 0; k < span / 32; ++k)
    asm volatile("{.reg .pred keep; setp.ne.b32 keep, %10, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, keep, 1, 1, 0, 0;}"
      : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7])
      : "l"(descriptor(a_at + 32 * k)), "l"(descriptor(b_at + 32 * k)), "r"(k));
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  for (int i = 0; i < 8; ++i) out[(row + i / 2 % 2 * 8) * 16 + column + i / 4 * 8 + i % 2] = s[i];
})");
    Aligned<std::uint16_t> a(static_cast<std::size_t>(64 * depth)), b(static_cast<std::size_t>(16 * depth));
    std::vector<float> a_values, b_values, out(64 * 16);
    Random random(11);
    const auto fill = [&](Aligned<std::uint16_t>& words, std::vector<float>& values) {
      for (std::size_t i = 0; i < words.size; ++i) {
        values.push_back(static_cast<float>(random.between(-9, 9)));
        std::uint32_t bits;
        std::memcpy(&bits, &values.back(), 4);
        words[i] = static_cast<std::uint16_t>(bits >> 16);
      }
    };
    fill(a, a_values);
    fill(b, b_values);
    const auto map_of = [&](const void* base, int rows) {
      Boxes boxes;
      boxes.base = base, boxes.element = MapElement::bf16, boxes.swizzle = swizzle;
      boxes.dimension(depth, 2, depth).dimension(rows, span, rows);
      return encoded(boxes);
    };
    Map map_a = map_of(a.data, 64), map_b = map_of(b.data, 16);
    float* o = out.data();
    EXPECT_GOOD(tried(toy, 128, {&map_a, &map_b, &o}, static_cast<unsigned>(80 * span), [&] {
      bool good = true;
      for (int r = 0; r < 64; ++r)
        for (int c = 0; c < 16; ++c) {
          float sum = 0;
          for (int k = 0; k < depth; ++k)
            sum +=
                a_values[static_cast<std::size_t>(r * depth + k)] * b_values[static_cast<std::size_t>(c * depth + k)];
          good = good && out[static_cast<std::size_t>(r * 16 + c)] == sum;
        }
      return good;
    }));
  }
}

/// 64 x 16 f16 of a and 16 x 16 of b with rows contiguous (trans-a, trans-b), no swizzle, blocks of eight rows apart.
TEST(EmulatorBulk, ProductsReadContiguousRows) {
  Toy toy(prelude + R"(__device__ __forceinline__ unsigned long long descriptor(u32 address, u32 stride) {
  return static_cast<unsigned long long>(address & 0x3ffff) >> 4 | static_cast<unsigned long long>(128 >> 4) << 16 | static_cast<unsigned long long>(stride >> 4) << 32;
}
extern "C" __global__ void kernel(const unsigned short* a, const unsigned short* b, float* out) {
  extern __shared__ __align__(128) unsigned short shared[];
  const int block = 272;  // bytes of eight rows at sixteen depths, and 16 more
  for (int i = threadIdx.x; i < 80 * 16; i += 128) {
    const int row = i / 16, k = i % 16;
    shared[row / 8 * (block / 2) + k * 8 + row % 8] = row < 64 ? a[row * 16 + k] : b[(row - 64) * 16 + k];
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  float s[8] = {};
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  asm volatile("{.reg .pred keep; setp.ne.b32 keep, %10, 0;\n"
    "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, keep, 1, 1, 1, 1;}"
    : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3]), "+f"(s[4]), "+f"(s[5]), "+f"(s[6]), "+f"(s[7])
    : "l"(descriptor(at(shared), block)), "l"(descriptor(at(shared) + 8 * block, block)), "r"(0));
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
  for (int i = 0; i < 8; ++i) out[(row + i / 2 % 2 * 8) * 16 + column + i / 4 * 8 + i % 2] = s[i];
})");
  const unsigned short numbers[] = {0x0000, 0x3c00, 0x4000, 0x4200, 0x4400, 0xbc00, 0xc000, 0xc200};
  const float values[] = {0, 1, 2, 3, 4, -1, -2, -3};
  std::vector<unsigned short> a(64 * 16), b(16 * 16);
  std::vector<float> out(64 * 16), want(64 * 16);
  Random random(5);
  std::vector<int> which_a, which_b;
  for (auto& v : a) which_a.push_back(int(random.between(0, 7))), v = numbers[which_a.back()];
  for (auto& v : b) which_b.push_back(int(random.between(0, 7))), v = numbers[which_b.back()];
  for (std::size_t r = 0; r < 64; ++r)
    for (std::size_t c = 0; c < 16; ++c)
      for (std::size_t k = 0; k < 16; ++k)
        want[r * 16 + c] += values[which_a[r * 16 + k]] * values[which_b[c * 16 + k]];
  const unsigned short *pa = a.data(), *pb = b.data();
  float* o = out.data();
  EXPECT_GOOD(tried(toy, 128, {&pa, &pb, &o}, 10 * 272, [&] { return out == want; }));
}

// ---- clusters -----------------------------------------------------------------------------------------------------

/// Each of four blocks writes to its right neighbour.
std::string passing_on(const char* start, const char* barrier, const char* end = "cluster_sync();") {
  return prelude + R"(extern "C" __global__ void __cluster_dims__(4, 1, 1) kernel(int* out) {
  extern __shared__ __align__(16) u32 shared[];
  const u32 rank = cluster_rank(), size = cluster_size();
  )" + start +
         R"(
  asm volatile("st.shared::cluster.b32 [%0], %1;" ::"r"(map(at(shared + threadIdx.x), (rank + 1) % size)), "r"(100 * rank + threadIdx.x) : "memory");
  )" + barrier +
         R"(
  out[blockIdx.x * blockDim.x + threadIdx.x] = shared[threadIdx.x ^ 1];
  )" + end +
         R"(
})";
}

TEST(EmulatorClusters, BlocksRunTogether) {
  std::vector<int> out(8 * 64);
  int* o = out.data();
  const auto of = [&](const std::string& text, unsigned blocks = 8, unsigned cluster = 0) {
    Toy toy(text);
    return tried(
        toy, 64, {&o}, 256,
        [&] {
          bool good = true;
          for (int i = 0; i < 512; ++i)
            good = good && out[static_cast<std::size_t>(i)] == 100 * ((i / 64 + 3) % 4) + (i % 64 ^ 1);
          return good;
        },
        blocks, cluster);
  };
  EXPECT_GOOD(of(passing_on("cluster_sync();", "cluster_sync();")));
  EXPECT_GOOD(of(passing_on("cluster_sync();", "cluster_sync();"), 8, 4));
  const Outcome not_started = of(passing_on("", "cluster_sync();"));
  EXPECT_GT(not_started.failed, 4);
  EXPECT_NE(not_started.words.find("may not have started"), std::string::npos) << not_started.words;
  const Outcome no_barrier = of(passing_on("cluster_sync();", "__syncthreads();"));
  EXPECT_GT(no_barrier.failed + no_barrier.wrong, 4);
  EXPECT_FAILS(
      of(passing_on("cluster_sync();", "if (threadIdx.x < 32) cluster_sync();\n__syncthreads();", "")),
      "the cluster never ends; 128 threads wait for a barrier of the block; 128 threads wait for the barrier of "
      "the cluster");
  const Outcome ended = of(passing_on("cluster_sync(); if (rank == 0) return;", "", ""));
  EXPECT_GT(ended.failed, 4);
  EXPECT_NE(ended.words.find("that has ended"), std::string::npos) << ended.words;
  EXPECT_FAILS(of(passing_on("cluster_sync();", "asm volatile(\"barrier.cluster.wait.aligned;\" ::: \"memory\");")),
               "the thread has not arrived");
  EXPECT_FAILS(of(passing_on("cluster_sync();", "map(0u, 4);")), "no block 4 in a cluster of 4");
  EXPECT_FAILS(of(passing_on("cluster_sync();", "cluster_sync();"), 6), "no multiple of its clusters");
  EXPECT_FAILS(of(passing_on("cluster_sync();", "cluster_sync();"), 8, 2), "other than those of __cluster_dims__");
  EXPECT_FAILS(
      of(passing_on(
          "cluster_sync();",
          R"({ u32 v; asm volatile("ld.shared.b32 %0, [%1];" : "=r"(v) : "r"(map(at(shared), rank ^ 1))); shared[0] = v; })")),
      "knows its own only");
}

TEST(EmulatorClusters, ReadsAndGenericAddresses) {
  Toy toy(prelude + R"(extern "C" __global__ void kernel(float* out) {
  __shared__ __align__(16) float shared[4];
  u32 rank, ranks, at_x;
  asm volatile("mov.u32 %0, %%cluster_ctaid.x;" : "=r"(at_x));
  rank = cluster_rank(), ranks = cluster_size();
  if (threadIdx.x < 4) shared[threadIdx.x] = 10 * rank + threadIdx.x;
  cluster_sync();
  const u32 other = ranks - 1 - at_x;
  float v[4];
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3]) : "r"(map(at(shared), other)) : "memory");
  unsigned long long generic;
  asm volatile("mapa.u64 %0, %1, %2;" : "=l"(generic) : "l"(shared + 1), "r"(other));
  if (threadIdx.x == 0) out[blockIdx.x] = v[3] + 1000 * *reinterpret_cast<const float*>(generic);
  cluster_sync();
})");
  std::vector<float> out(16);
  float* o = out.data();
  EXPECT_GOOD(tried(
      toy, 32, {&o}, 0,
      [&] {
        bool good = true;
        for (int i = 0; i < 16; ++i)
          good =
              good && out[static_cast<std::size_t>(i)] == float(10 * (7 - i % 8) + 3 + 1000 * (10 * (7 - i % 8) + 1));
        return good;
      },
      16, 8));
  EXPECT_FAILS(tried(
                   toy, 32, {&o}, 0, [] { return true; }, 16, 16),
               "clusters of 16 blocks, of 8 allowed");
}

/// One block of two brings what both need, with a multicast; both tell it when the stage is free again.
TEST(EmulatorClusters, MulticastAndRemoteBarriers) {
  const auto text = [](const std::string& release) {
    return prelude + R"(extern "C" __global__ void __cluster_dims__(2, 1, 1) kernel(float* out, const float* from) {
  extern __shared__ __align__(128) float shared[];
  __shared__ __align__(8) unsigned long long full;
  __shared__ __align__(8) unsigned long long empty;  // block 0's waits for the readers of both
  const u32 rank = cluster_rank();
  if (threadIdx.x == 0) {
    barrier_init(at(&full), 1), barrier_init(at(&empty), rank == 0 ? 64 : 32);
    barrier_fence();
  }
  cluster_sync();
  if (threadIdx.x >= 32) {
    for (int turn = 0; turn < 4 && threadIdx.x == 32; ++turn) {
      wait(at(&empty), (turn & 1) ^ 1);
      expect(at(&full), 128);
      if (rank == 0)
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;"
            ::"r"(at(shared)), "l"(from + 32 * turn), "r"(128), "r"(at(&full)), "h"(static_cast<unsigned short>(3)) : "memory");
    }
  } else {
    for (int turn = 0; turn < 4; ++turn) {
      wait(at(&full), turn & 1);
      out[(rank * 4 + turn) * 32 + threadIdx.x] = shared[threadIdx.x];
      if (rank == 1) arrive(at(&empty));
      )" + release +
           R"(
    }
  }
  __syncwarp();
  cluster_sync();
})";
  };
  Aligned<float> from(128), out(256);
  for (std::size_t i = 0; i < 128; ++i) from[i] = static_cast<float>(i);
  float* o = out.data;
  const float* f = from.data;
  const auto of = [&](const std::string& release) {
    Toy toy(text(release));
    return tried(
        toy, 64, {&o, &f}, 128,
        [&] {
          bool good = true;
          for (std::size_t i = 0; i < 256; ++i) good = good && out[i] == static_cast<float>(i % 128);
          return good;
        },
        2);
  };
  const std::string release =
      R"(asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(map(at(&empty), 0)) : "memory");)";
  EXPECT_GOOD(of(release));
  EXPECT_FAILS(of(R"(asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(map(at(&empty), 0)) : "memory");)"),
               "knows its own only");
  EXPECT_FAILS(of("if (rank == 0) " + release), "lacks 32 arrivals");
}

TEST(EmulatorClusters, WordsSentToANeighbour) {
  Toy toy(prelude + R"(extern "C" __global__ void __cluster_dims__(2) kernel(u32* out) {
  __shared__ __align__(16) u32 box[128];
  __shared__ __align__(8) unsigned long long barrier;
  const u32 other = cluster_rank() ^ 1;
  if (threadIdx.x == 0) {
    barrier_init(at(&barrier), 1);
    barrier_fence();
    expect(at(&barrier), 512);
  }
  cluster_sync();
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %1, %1, %2}, [%3];" ::"r"(map(at(box + 4 * threadIdx.x), other)),
      "r"(threadIdx.x), "r"(1000 * other), "r"(map(at(&barrier), other)) : "memory");
  wait(at(&barrier), 0);
  out[blockIdx.x * 32 + threadIdx.x] = box[4 * (threadIdx.x ^ 1)] + box[4 * threadIdx.x + 3];
})");
  std::vector<unsigned> out(64);
  unsigned* o = out.data();
  EXPECT_GOOD(tried(
      toy, 32, {&o}, 0,
      [&] {
        bool good = true;
        for (unsigned i = 0; i < 64; ++i) good = good && out[i] == (i % 32 ^ 1) + 1000 * (i / 32);
        return good;
      },
      2));
}

// ---- warps --------------------------------------------------------------------------------------------------------

TEST(EmulatorWarps, NamedBarriersElectionsRegisters) {
  const auto text = [](const char* arrive) {
    return prelude + R"(extern "C" __global__ void __launch_bounds__(256) kernel(int* out) {
  __shared__ int shared[128];
  if (threadIdx.x >= 128) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    shared[threadIdx.x - 128] = threadIdx.x;
    )" + arrive +
           R"(
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    u32 chosen;
    asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.b32 %0, 1, 0, p;}" : "=r"(chosen));
    asm volatile("bar.sync 3, 256;" ::: "memory");
    out[threadIdx.x] = shared[threadIdx.x ^ 64] + 1000 * chosen;
  }
})";
  };
  std::vector<int> out(128);
  int* o = out.data();
  const auto of = [&](const char* arrive) {
    Toy toy(text(arrive));
    return tried(toy, 256, {&o}, 0, [&] {
      bool good = true;
      for (int i = 0; i < 128; ++i)
        good = good && out[static_cast<std::size_t>(i)] == 128 + (i ^ 64) + (i % 32 ? 0 : 1000);
      return good;
    });
  };
  EXPECT_GOOD(of("asm volatile(\"bar.arrive 3, 256;\" ::: \"memory\");"));
  EXPECT_FAILS(of(""), "128 threads wait for a barrier of the block");
  EXPECT_FAILS(of("asm volatile(\"bar.arrive 3, 128;\" ::: \"memory\");"), "");
}

TEST(EmulatorWarps, MatricesStoredAndLoaded) {
  for (const char* transposed : {"", ".trans"}) {
    Toy toy(
        prelude + R"(extern "C" __global__ void kernel(u32* out, u32* memory) {
  __shared__ __align__(128) u32 shared[4 * 32];
  const u32 row = at(shared) + threadIdx.x * 16;
  u32 v[4], w[4];
  for (int i = 0; i < 4; ++i) v[i] = 100 * i + threadIdx.x;
  asm volatile("stmatrix.sync.aligned.m8n8.x4)" +
        std::string(transposed) +
        R"(.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]) : "memory");
  __syncwarp();
  asm volatile("ldmatrix.sync.aligned.m8n8.x4)" +
        transposed +
        R"(.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(row) : "memory");
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = w[i], memory[i * 32 + threadIdx.x] = shared[i * 32 + threadIdx.x];
})");
    std::vector<unsigned> out(128), memory(128);
    unsigned *o = out.data(), *m = memory.data();
    EXPECT_GOOD(tried(toy, 32, {&o, &m}, 0, [&] {
      bool good = true;
      for (unsigned i = 0; i < 128; ++i) good = good && out[i] == 100 * (i % 4) + i / 4;
      // Lane 4 r + c / 2 holds columns c and c + 1 of row r; transposed, rows of that column.
      for (unsigned i = 0; i < 128 && !*transposed; ++i) good = good && memory[i] == 100 * (i / 32) + i % 32;
      return good;
    }));
  }
}

TEST(EmulatorWarps, TiesOfTf32) {
  Toy toy(R"(extern "C" __global__ void kernel(const float* from, unsigned* to) {
  asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(to[0]) : "f"(*from));
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(to[1]) : "f"(*from));
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;");
})");
  float from = 0;
  const float* f = &from;
  unsigned to[2];
  unsigned* t = to;
  for (const auto& [bits, even, away] :
       {std::array{0x3f801000u, 0x3f800000u, 0x3f802000u}, std::array{0x3f803000u, 0x3f804000u, 0x3f804000u}}) {
    std::memcpy(&from, &bits, 4);
    ASSERT_EQ(toy.launch(1, {&f, &t}), "");
    EXPECT_EQ(to[0], even);
    EXPECT_EQ(to[1], away);
  }
}

}  // namespace
