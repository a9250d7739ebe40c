// What the chain plans of both engines share: operands resolved to strides, and the engines' makers.
#pragma once

#include "upconv/chain.hpp"

namespace upconv {

/// Operands of a step list as strides over values of `shape`. `out` has max_operands entries.
Status resolve(const Epilogue& steps, const Shape5& shape, const ChainArgs& args, Operand* out);

/// How an operand lies over dense values of `shape`; `any` where it does not fit them.
Spread spread_of(const OperandTensor& operand, const Shape5& shape);

/// A norm's vector operand of `length` elements along dimension `dim` on; null for number -1.
Status resolve_vector(int number, std::int64_t length, const char* what, const ChainArgs& args, const void** out);

/// Whether some operand that the steps read differs along d, h or w.
bool varies_in_space(const Epilogue& steps, const Operand* operands);

Result<std::shared_ptr<const ChainPlan>> make_cpu_chain(const Problem& problem, const Chain& chain,
                                                        const std::vector<Shape5>& shapes);
Result<std::shared_ptr<const ChainPlan>> make_cuda_chain(const Problem& problem, Device device, const Chain& chain,
                                                         const std::vector<Shape5>& shapes);

}  // namespace upconv
