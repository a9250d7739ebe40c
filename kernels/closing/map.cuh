// A closing kernel that writes every value: a norm or softmax applied by its table, pooling, the steps around them.
// A thread has several values, a block's apart: neighbouring lanes read neighbours, whatever a plane's size is a
// multiple of. All are read before the first is written, so the result may take the source's place where there is no
// window. Blocks of 256. Floor: the source once, the result once.
#include "closing/value.cuh"

extern "C" __global__ void __launch_bounds__(256)
    closing_map(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  after_previous();
  constexpr int each = config::POOL ? 2 : 8;
  const i64 begin = i64(block_number(a)) * (THREADS * each);
  const Run run(a, begin, THREADS * each);
  const int thread = threadIdx.x;
  S v[each];
  if (run.one_plane) {
    const Spot s = in_plane(run.plane, run.first);
#pragma unroll
    for (int u = 0; u < each; ++u) v[u] = value(a, operands, s.n, s.channel, run.first + thread + u * THREADS);
  } else {
#pragma unroll
    for (int u = 0; u < each; ++u) {
      v[u] = S(0);
      if (begin + thread + u * THREADS >= a.at.count) continue;
      const Spot s = run.at(a, thread + u * THREADS);
      v[u] = value(a, operands, s.n, s.channel, s.inside);
    }
  }
  Out* out = static_cast<Out*>(a.out) + begin + thread;
#pragma unroll
  for (int u = 0; u < each; ++u)
    if (run.one_plane || begin + thread + u * THREADS < a.at.count) out[u * THREADS] = from_float<Out>(v[u]);
}
