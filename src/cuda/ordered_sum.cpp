// See ordered_sum.hpp.
#include "cuda/ordered_sum.hpp"

#include "cuda/element.hpp"

namespace upconv::cuda {

OrderedSum::OrderedSum(DType dtype)
    : kernel_({"ordered_sum.cuh", "ordered_sum",
               "#include \"types.cuh\"\nnamespace config {\ntypedef " + std::string(device_type(dtype)) +
                   " Element;\n}\n"}) {}

}  // namespace upconv::cuda
