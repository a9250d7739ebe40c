// Picks a table that sources compiled once per instruction set define under the same name in each namespace.
#pragma once

#include "cpu/isa.hpp"

/// Declares `const Type name[4]` (one entry per DType) in every instruction set's namespace of this architecture.
#if defined(__x86_64__)
#define UPCONV_DECLARE_PER_ISA(Type, name) \
  namespace upconv::base {                 \
  extern const Type name[4];               \
  }                                        \
  namespace upconv::v3 {                   \
  extern const Type name[4];               \
  }                                        \
  namespace upconv::v4 {                   \
  extern const Type name[4];               \
  }
#define UPCONV_PER_ISA(name) (active_isa() == Isa::v4 ? v4::name : active_isa() == Isa::v3 ? v3::name : base::name)
#else
#define UPCONV_DECLARE_PER_ISA(Type, name) \
  namespace upconv::base {                 \
  extern const Type name[4];               \
  }
#define UPCONV_PER_ISA(name) (base::name)
#endif
