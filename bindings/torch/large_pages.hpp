// Asks the kernel to back a large new tensor with large pages. operand.cpp calls it on what it allocates.
#pragma once

#include <cstddef>

namespace upconv::binding {

/// A hint for memory that is about to be written for the first time; never changes its contents. Only from 32 MB on,
/// where the C library maps memory anew for each tensor, so that each one pays a fault per page. UPCONV_LARGE_PAGES=0
/// turns it off.
void prefer_large_pages(void* memory, std::size_t bytes);

}  // namespace upconv::binding
