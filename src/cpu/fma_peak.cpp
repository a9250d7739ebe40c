// See fma_peak.hpp. Picks the instruction set, and repeats chunks until the thread has spent its time.
#include "cpu/fma_peak.hpp"

#include <ctime>

#include "cpu/isa.hpp"

namespace upconv {

namespace base {
extern const cpu::FmaIsa fma_isa;
}
#if defined(__x86_64__)
namespace v3 {
extern const cpu::FmaIsa fma_isa;
}
namespace v4 {
extern const cpu::FmaIsa fma_isa;
}
#endif

namespace cpu {
namespace {

const FmaIsa& fma_isa() {
#if defined(__x86_64__)
  if (active_isa() == Isa::v4) return v4::fma_isa;
  if (active_isa() == Isa::v3) return v3::fma_isa;
#endif
  return base::fma_isa;
}

/// Seconds of processor time that the calling thread has used.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

}  // namespace

double fma_peak(double seconds) {
  constexpr std::int64_t rounds = 100'000;  // some 0.3 ms
  fma_isa().flop(rounds);                   // wakes the wide units
  double done = 0;
  const double begin = thread_seconds();
  double taken = 0;
  while (taken < seconds || taken <= 0) {
    done += fma_isa().flop(rounds);
    taken = thread_seconds() - begin;
  }
  return done / taken * 1e-9;
}

}  // namespace cpu
}  // namespace upconv
