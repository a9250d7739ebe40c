// See wgmma_text.hpp.
#include "cuda/wgmma_text.hpp"

namespace upconv::cuda {

std::string wgmma_text(int n, TensorOperand operand) {
  const bool tf32 = operand == TensorOperand::tf32;
  const std::string type = tf32 ? "tf32" : operand == TensorOperand::bf16 ? "bf16" : "f16";
  const int registers = n / 2;
  const auto at = [&](int i) { return "%" + std::to_string(registers + i); };
  std::string list, outputs;
  for (int i = 0; i < registers; ++i) {
    list += (i ? ", %" : "%") + std::to_string(i);
    outputs += (i ? ", \"+f\"(sum[" : "\"+f\"(sum[") + std::to_string(i) + "])";
  }
  std::string s = "__device__ __forceinline__ void wgmma(float (&sum)[" + std::to_string(registers) +
                  "], const unsigned (&a)[4], unsigned long long b) {\n";
  s += "  asm volatile(\"{.reg .pred keep; setp.ne.b32 keep, " + at(5) +
       ", 0;\\n\"\n    \"wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) + "k" + (tf32 ? "8" : "16") + ".f32." +
       type + "." + type;
  s += " {" + list + "}, {" + at(0) + ", " + at(1) + ", " + at(2) + ", " + at(3) + "}, " + at(4);
  // Whether the sum is kept, signs of a and b, and for 16-bit types whether b is transposed.
  s += std::string(", keep, 1, 1") + (tf32 ? "" : ", 0") + ";}\"\n    : " + outputs;
  return s + "\n    : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"l\"(b), \"r\"(1));\n}\n";
}

}  // namespace upconv::cuda
