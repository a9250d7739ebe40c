
namespace exported {

typedef int (*EncodeMap)(void*, int, unsigned, const void*, const unsigned long long*, const unsigned long long*,
                         const unsigned*, const unsigned*, int, int, int, int);

/// The driver's function that makes a tensor map, which the runtime finds; null: this driver has none.
inline EncodeMap find_encode() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
  cudaError_t error = cudaErrorInvalidValue;
#if CUDART_VERSION >= 12050
  error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#elif CUDART_VERSION >= 12000
  error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
  return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? reinterpret_cast<EncodeMap>(found) : nullptr;
}

inline bool encode_map(Start& start, upconv::arguments::TensorMap& map, const upconv::launch::TensorBoxes& boxes) {
  static const EncodeMap encode = find_encode();
  if (!encode || upconv::launch::refusal_of(boxes) ||
      encode(&map, int(boxes.element), unsigned(boxes.rank), boxes.base, boxes.sizes, boxes.strides, boxes.box,
             boxes.steps, 0, int(boxes.swizzle), boxes.promotion, 0) != 0)
    start.error = cudaErrorInvalidValue;
  return start.error == cudaSuccess;
}

}  // namespace exported
