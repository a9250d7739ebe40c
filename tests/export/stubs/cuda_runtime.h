// Nothing: tests/emulator/cuda.hpp stands in for the runtime.
