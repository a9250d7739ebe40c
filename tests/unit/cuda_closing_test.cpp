// What is decided of a chain's norm before a kernel is compiled: whether one kernel has room for its sets, and in how
// many blocks.
#include <gtest/gtest.h>

#include <string>

#include "launch/closing.hpp"
#include "upconv/chain.hpp"

namespace upconv {
namespace {

using launch::ClosingFixed;
using launch::Int;

constexpr Int h200 = 132, h200_shared = 232448, rtx5090 = 170, rtx5090_shared = 101376;

ClosingFixed sets_of(Int per, Int units, Int volume, Int shared_bytes, Int processors, Int stored_bytes = 4) {
  ClosingFixed f;
  f.kind = 6, f.per = per, f.stored_bytes = stored_bytes;
  f.cluster = launch::cluster_for_sets(f, units, volume, shared_bytes, static_cast<int>(processors));
  return f;
}

/// `channels` of `volume` values each, in groups of `per`.
launch::ClosingLaunch launch_of(const ClosingFixed& f, Int samples, Int channels, Int volume, Int shared_bytes,
                                Int processors) {
  const Int source[5] = {samples, channels, 1, 1, volume};
  return launch::launch_of(f, source, static_cast<int>(processors), shared_bytes);
}

TEST(CudaClosing, SetsHaveAsManyBlocksAsTheirValuesNeed) {
  const struct {
    const char* what;
    Int per, samples, channels, volume, cluster, blocks;
  } cases[] = {
      {"L2/19: 2.1 MB a set, and seven clusters of 16 run at once", 8, 128, 64, 258 * 258, 16, 112},
      {"L2/60: 1.97 MB", 4, 128, 16, 123039, 16, 112},
      {"planes of 68 KB: a block has room for one and the next", 1, 16, 64, 130 * 130, 1, 132},
      {"the same of one sample: 64 sets, so four blocks each", 1, 1, 64, 130 * 130, 4, 120},
      {"small and few: a set a block", 8, 1, 64, 32, 1, 8},
  };
  for (const auto& c : cases) {
    const Int units = c.samples * c.channels / c.per;
    const ClosingFixed f = sets_of(c.per, units, c.volume, h200_shared, h200);
    EXPECT_EQ(f.cluster, c.cluster) << c.what;
    const auto l = launch_of(f, c.samples, c.channels, c.volume, h200_shared, h200);
    EXPECT_EQ(l.refusal, nullptr) << c.what << ": " << l.refusal;
    EXPECT_EQ(l.blocks, c.blocks) << c.what;
    EXPECT_EQ(l.blocks % f.cluster, 0) << c.what;
    EXPECT_LE(l.shared_bytes + 2048, h200_shared) << c.what;
    EXPECT_EQ(l.arguments.units, units) << c.what;
    EXPECT_EQ(l.arguments.length, c.per * c.volume) << c.what;
  }
}

TEST(CudaClosing, SetsThatHaveNoRoomAreRefused) {
  const auto refusal = [](Int per, Int samples, Int channels, Int volume, Int shared_bytes, Int processors) {
    const ClosingFixed f = sets_of(per, samples * channels / per, volume, shared_bytes, processors);
    const auto l = launch_of(f, samples, channels, volume, shared_bytes, processors);
    return std::string(l.refusal ? l.refusal : "");
  };
  EXPECT_EQ(refusal(8, 128, 64, 258 * 258, h200_shared, h200), "");
  EXPECT_NE(refusal(8, 128, 64, 400 * 400, h200_shared, h200).find("larger than the memory"), std::string::npos);
  EXPECT_NE(refusal(8, 128, 64, 258 * 258, rtx5090_shared, rtx5090).find("larger than the memory"), std::string::npos);
  EXPECT_NE(refusal(8, 128, 64, 258 * 258, 0, h200), "") << "no clusters, no shared memory for them";
  EXPECT_NE(refusal(1, 128, 64, 32 * 32, h200_shared, h200).find("many small"), std::string::npos);
  EXPECT_NE(refusal(2, 1, 8, 15, h200_shared, h200).find("too small"), std::string::npos);
  // A file that was made for an H200, on a GPU of fewer multiprocessors.
  const ClosingFixed wide = sets_of(8, 1024, 258 * 258, h200_shared, h200);
  EXPECT_NE(launch_of(wide, 128, 64, 258 * 258, h200_shared, 78).refusal, nullptr);
  EXPECT_NE(launch_of(wide, 128, 64, 258 * 258, h200_shared, 120).refusal, nullptr) << "15 in each of 8 GPCs";
  EXPECT_EQ(launch_of(wide, 128, 64, 258 * 258, h200_shared, 121).refusal, nullptr);
  EXPECT_EQ(sets_of(8, 1024, 258 * 258, h200_shared, 120).cluster, 8);
  // Nothing to do is refused alike.
  EXPECT_NE(launch_of(sets_of(8, 0, 258 * 258, 0, h200), 0, 64, 258 * 258, 0, h200).refusal, nullptr);
}

/// Two windows of a padding each make more values than there were, and more than 31 bits count.
TEST(CudaClosing, PlanesAreCountedAfterTheirWindowToo) {
  ClosingFixed f;
  f.window = true, f.k_h = f.k_w = 2, f.p_h = f.p_w = 1;
  const Int source[5] = {1, 1, 1, 1, Int(1) << 30};
  EXPECT_NE(launch::launch_of(f, source, h200).refusal, nullptr);
  f.wide = true;
  EXPECT_EQ(launch::launch_of(f, source, h200).refusal, nullptr);
}

/// On a chain's plan: one kernel of the model of an H200, three of an A100's and where fp64 is wanted.
TEST(CudaClosing, APlanTakesTheOneKernelWhereItMay) {
  const auto explained = [](const std::string& problem, int architecture) {
    const auto p = parse_problem(problem);
    EXPECT_TRUE(p.ok()) << problem;
    Chain chain;
    chain.epilogue.steps.push_back({.activation = Activation::gelu});
    ClosingStep norm;
    norm.kind = ClosingStep::Kind::plane_norm, norm.groups = 8;
    chain.closing.push_back(norm);
    const auto plan = ChainPlan::create(*p, Device::cuda_model(architecture), chain);
    EXPECT_TRUE(plan.ok()) << problem;
    return plan.ok() ? (*plan)->explain() : std::string();
  };
  const std::string one = explained("2d n4 c64 o64 i256x256 k3 f32", 90);
  EXPECT_NE(one.find("1 closing kernels"), std::string::npos) << one;
  EXPECT_NE(one.find("sets norm"), std::string::npos) << one;
  for (const auto& [problem, architecture] : {std::pair{"2d n4 c64 o64 i256x256 k3 f32", 80},
                                              {"2d n4 c64 o64 i256x256 k3 f64", 90},
                                              {"2d n4 c64 o64 i512x512 k3 f32", 90}}) {
    const std::string three = explained(problem, architecture);
    EXPECT_NE(three.find("3 closing kernels"), std::string::npos) << three;
    EXPECT_EQ(three.find("sets norm"), std::string::npos) << three;
  }
}

}  // namespace
}  // namespace upconv
