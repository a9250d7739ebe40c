// See wgmma_text.hpp.
#include "cuda/wgmma_text.hpp"

#include <cstdlib>

namespace upconv::cuda {
namespace {

std::string text_of(int n, TensorOperand operand, bool a_shared, bool b_rows, bool a_rows = true) {
  const bool tf32 = operand == TensorOperand::tf32;
  const std::string type = tf32 ? "tf32" : operand == TensorOperand::bf16 ? "bf16" : "f16";
  const int registers = n / 2, a_words = a_shared ? 1 : 4;
  const auto at = [&](int i) { return "%" + std::to_string(registers + i); };
  std::string list, outputs;
  for (int i = 0; i < registers; ++i) {
    list += (i ? ", %" : "%") + std::to_string(i);
    outputs += (i ? ", \"+f\"(sum[" : "\"+f\"(sum[") + std::to_string(i) + "])";
  }
  std::string s = std::string("__device__ __forceinline__ void ") + (a_shared ? "wgmma_shared" : "wgmma") +
                  "(float (&sum)[" + std::to_string(registers) + "], " +
                  (a_shared ? "unsigned long long a" : "const unsigned (&a)[4]") + ", unsigned long long b) {\n";
  s += "  asm volatile(\"{.reg .pred keep; setp.ne.b32 keep, " + at(a_words + 1) +
       ", 0;\\n\"\n    \"wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) + "k" + (tf32 ? "8" : "16") + ".f32." +
       type + "." + type + " {" + list + "}, ";
  s += a_shared ? at(0) : "{" + at(0) + ", " + at(1) + ", " + at(2) + ", " + at(3) + "}";
  // Whether the sum is kept, signs of a and b, and for 16-bit types which operands in memory have contiguous rows.
  s += ", " + at(a_words) + ", keep, 1, 1" + (a_shared && !tf32 ? a_rows ? ", 1" : ", 0" : "") +
       (tf32     ? ""
        : b_rows ? ", 1"
                 : ", 0");
  s += ";}\"\n    : " + outputs + "\n    : ";
  s += a_shared ? "\"l\"(a)" : "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])";
  return s + ", \"l\"(b), \"r\"(1));\n}\n";
}

}  // namespace

std::string wgmma_text(int n, TensorOperand operand, bool rows_contiguous) {
  return text_of(n, operand, false, rows_contiguous);
}
std::string wgmma_shared_text(int n, TensorOperand operand, bool rows_contiguous, bool a_rows_contiguous) {
  return text_of(n, operand, true, rows_contiguous, a_rows_contiguous);
}

std::string every_lane_text() {
  return std::string("constexpr bool EVERY_LANE = ") +
         (std::getenv("UPCONV_EVERY_LANE_ARRIVES") != nullptr ? "true;\n" : "false;\n");
}

}  // namespace upconv::cuda
