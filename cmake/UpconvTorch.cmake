# Finds an installed torch >= 2.10 without importing it. Sets
#   UPCONV_TORCH_DIR       the torch package's folder, empty when there is none
#   UPCONV_TORCH_VERSION   its version
#   UPCONV_TORCH_PROBLEM   why there is none
# Only headers are compiled against (the stable ABI), so this torch need not be the one that later runs.
find_package(Python COMPONENTS Interpreter QUIET)
set(UPCONV_TORCH_DIR "")
set(UPCONV_TORCH_PROBLEM "no Python interpreter found")
if(Python_Interpreter_FOUND)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" "${CMAKE_CURRENT_LIST_DIR}/../tools/find_torch.py" --minimum 2.10
    OUTPUT_VARIABLE found ERROR_VARIABLE UPCONV_TORCH_PROBLEM RESULT_VARIABLE failed
    OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE)
  if(NOT failed)
    string(REPLACE "\n" ";" found "${found}")
    list(GET found 0 UPCONV_TORCH_DIR)
    list(GET found 1 UPCONV_TORCH_VERSION)
  endif()
endif()
