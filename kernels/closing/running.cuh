// The running averages of a batch norm, from the statistics of one batch: one block, channels in turn.
// Host preamble: Element.
#include "ptx/dependents.cuh"
#include "types.cuh"

extern "C" __global__ void __launch_bounds__(256)
    closing_running(const double* statistics, config::Element* __restrict__ mean,
                    config::Element* __restrict__ variance, long long* batches, const double momentum,
                    const double correction, const int channels) {
  using namespace upconv;
  let_next_begin();
  after_previous();
  typedef Number<config::Element>::Sum S;
  const long long before = *batches;
  __syncthreads();
  if (threadIdx.x == 0) *batches = before + 1;
  const double share = momentum >= 0.0 ? momentum : 1.0 / double(before + 1);
  for (int c = threadIdx.x; c < channels; c += 256) {
    const double m = to_float(mean[c]), v = to_float(variance[c]);
    mean[c] = from_float<config::Element>(S(m + share * (statistics[c] - m)));
    variance[c] = from_float<config::Element>(S(v + share * (statistics[channels + c] * correction - v)));
  }
}
