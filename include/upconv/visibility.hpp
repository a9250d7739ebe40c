// Marks what a shared libupconv exports. Everything else is hidden, and in a static library nothing is marked, so
// that a shared object which links it does not export it again.
#pragma once

#if defined(UPCONV_SHARED)
#define UPCONV_API __attribute__((visibility("default")))
#else
#define UPCONV_API
#endif
