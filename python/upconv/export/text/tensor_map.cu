
namespace exported {

/// Makes a tensor map by the driver's function, which the runtime finds.
inline bool encode_map(Start& start, upconv::arguments::TensorMap& map, const upconv::launch::TensorBoxes& boxes) {
  typedef int (*Encode)(void*, int, unsigned, const void*, const unsigned long long*, const unsigned long long*,
                        const unsigned*, const unsigned*, int, int, int, int);
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  start.error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#elif CUDART_VERSION >= 12000
  start.error = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
  if (start.error == cudaSuccess &&
      (result != cudaDriverEntryPointSuccess || !found || upconv::launch::refusal_of(boxes) ||
       reinterpret_cast<Encode>(found)(&map, int(boxes.element), unsigned(boxes.rank), boxes.base, boxes.sizes,
                                       boxes.strides, boxes.box, boxes.steps, 0, int(boxes.swizzle), boxes.promotion,
                                       0) != 0))
    start.error = cudaErrorInvalidValue;
  return start.error == cudaSuccess;
}

}  // namespace exported
