// The problems whose CUDA plans the tests look at: named shapes in the dtypes, precisions and layouts they may run in.
// No GPU: plans are made for models of one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ops/shapes.hpp"
#include "upconv/epilogue.hpp"
#include "upconv/plan.hpp"

namespace upconv::test {

struct Variant {
  const char* name;
  DType dtype;
  Precision precision;
  bool channels_last = false;
  enum { plain, gelu, arithmetic } epilogue = plain;  ///< Of the forward.
};

inline constexpr Variant variants[] = {
    {"tf32", DType::f32, Precision::tf32},
    {"bf16x3", DType::f32, Precision::bf16x3},
    {"ieee", DType::f32, Precision::ieee},
    {"bf16", DType::bf16, Precision::ieee},
    {"f16", DType::f16, Precision::ieee},
    {"f64", DType::f64, Precision::ieee},
    {"tf32 channels_last", DType::f32, Precision::tf32, true},
    {"bf16 channels_last", DType::bf16, Precision::ieee, true},
    {"tf32 gelu", DType::f32, Precision::tf32, false, Variant::gelu},
    {"bf16 gelu", DType::bf16, Precision::ieee, false, Variant::gelu},
    {"tf32 arithmetic", DType::f32, Precision::tf32, false, Variant::arithmetic},
};

inline Problem apply(const Variant& v, Problem p) {
  p.dtype = v.dtype;
  p.precision = v.precision;
  if (v.channels_last && p.rank > 1) p.x_layout = p.y_layout = Layout::channels_last;
  return p;
}

inline Epilogue epilogue_of(const Variant& v) {
  Epilogue e;
  if (v.epilogue == Variant::gelu) e.steps = {{Activation::gelu, 0.0, 0.0}};
  if (v.epilogue != Variant::arithmetic) return e;
  EpilogueStep keep, times, least;
  keep.arithmetic = Arithmetic::keep;
  times.arithmetic = Arithmetic::multiply, times.source = Source::kept;
  least.arithmetic = Arithmetic::minimum, least.a = 4.0;
  e.steps = {keep, {Activation::sigmoid}, times, least};
  return e;
}

inline constexpr Pass all_passes[] = {Pass::forward, Pass::backward_input, Pass::backward_weight, Pass::backward_bias};

}  // namespace upconv::test
