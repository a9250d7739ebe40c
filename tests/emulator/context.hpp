// Contexts of execution that switch by hand: the threads of a device block, all on one thread of the system. No system
// call is made, so a switch takes some nanoseconds. Called by runtime.cpp.
#pragma once

#include <cstddef>

namespace emulator {

/// A context that begins with `body`, on the i-th of the stacks that this file keeps (1024 for each block that runs at
/// once). `body` must not return.
void* fresh_context(std::size_t i, void (*body)());

/// Leaves the running context in `save` and goes on with `load`.
void switch_context(void** save, void* load);

}  // namespace emulator
