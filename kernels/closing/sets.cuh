// A norm over sets of planes that follow each other (a group of channels of a sample) in one pass: a cluster of blocks
// has a set, each a share of it in shared memory, so that memory sees every value once and every result once. What
// parts.cuh, norm.cuh and map.cuh do in three reads where a set is too large for that.
//
// A share comes in pieces of 24 KiB by bulk copies into a ring of SLOTS. One warp brings them, as early as slots are
// free: the next set's while this one's results leave. The others take the moments of what came (the items in front of
// the norm are evaluated here, and kept where the ring holds their type), each block sends its own to all, and the
// second look at the ring writes the results, which may take the source's place. Sets begin at any element: pieces are
// counted from the last multiple of 16 bytes before.
//
// Host preamble: CLUSTER (blocks of a set), PER (planes of a set), WEIGHT, BIAS, CENTER (no scale), EPS, EVERY_LANE.
// Compute capability 9.0 and later. Floor: the source once, the result once.
#include "closing/collect.cuh"
#include "neighbours.cuh"
#include "ptx/arriving.cuh"
#include "ptx/warpgroup.cuh"

namespace upconv::closing {

using config::CLUSTER;
constexpr int SLOTS = arguments::most_slots, WARPS = arguments::set_warps;
constexpr int MULTIPLE = 16, VECTOR = MULTIPLE / int(sizeof(Stored));               ///< Bytes of a vector, its values.
constexpr int EACH = arguments::set_each, PIECE = arguments::set_piece / MULTIPLE;  ///< Vectors of a lane, of all.
/// Whether the ring holds what the items in front of the norm gave, instead of what they were given.
constexpr bool KEEPS = sizeof(Stored) == sizeof(S);

/// This block's share of a set.
struct Share {
  const char* begin;  ///< A multiple of 16 bytes.
  i64 set, first;     ///< The set's number, and its first value's among all.
  int vectors;        ///< 16 bytes each.
  int offset;         ///< Of the share's first vector from the set's first value: the least of its elements.
  int n, channel;     ///< Of the set's first plane.

  __device__ __forceinline__ Share(const Closing& a, i64 number) : set(number), first(number * a.length) {
    const u32 plane = static_cast<u32>(number) * config::PER;  // planes have 31 bits
    n = static_cast<int>(plane / CHANNELS), channel = static_cast<int>(plane % CHANNELS);
    const char* from = static_cast<const char*>(a.source) + first * i64(sizeof(Stored));
    const int lead = static_cast<int>(reinterpret_cast<u64>(from) % MULTIPLE);
    const i64 all = (lead + a.length * i64(sizeof(Stored)) + MULTIPLE - 1) / MULTIPLE;
    const int share = static_cast<int>((all + CLUSTER - 1) / CLUSTER), before = share * rank_in_cluster();
    vectors = static_cast<int>(all) - before < share ? static_cast<int>(all) - before : share;
    if (vectors < 0) vectors = 0;
    begin = from - lead + i64(before) * MULTIPLE;
    offset = before * VECTOR - lead / int(sizeof(Stored));
  }
  __device__ __forceinline__ int pieces() const { return (vectors + PIECE - 1) / PIECE; }
};

/// Where the ring is: pieces count on from set to set.
struct Place {
  int slot = 0, round = 0;
  __device__ __forceinline__ void next(int slots) {
    if (++slot == slots) slot = 0, round ^= 1;
  }
};

struct Ring {
  u32 slots, full, empty;  ///< Addresses in shared memory.
  int count;

  /// Where the ring is, is asked for once.
  __device__ __forceinline__ void hold() { asm volatile("" : "+r"(slots), "+r"(full), "+r"(empty)); }
  __device__ __forceinline__ u32 slot(const Place& p) const { return slots + p.slot * (PIECE * MULTIPLE); }
  __device__ __forceinline__ u32 full_at(const Place& p) const { return full + p.slot * 8; }
  __device__ __forceinline__ u32 empty_at(const Place& p) const { return empty + p.slot * 8; }
};

/// The warp that brings a share. A piece with bytes before the first value of all, or behind the last, comes element by
/// element.
__device__ __forceinline__ void bring(const Closing& a, const Ring& ring, char* slots, const Share& s, Place& place) {
  const char *least = static_cast<const char*>(a.source), *most = least + a.at.count * i64(sizeof(Stored));
  const int lane = threadIdx.x % 32;
  for (int piece = 0; piece < s.pieces(); ++piece, place.next(ring.count)) {
    const int left = s.vectors - piece * PIECE, bytes = (left < PIECE ? left : PIECE) * MULTIPLE;
    const char* from = s.begin + i64(piece) * (PIECE * MULTIPLE);
    if (lane < arriving) barrier_wait(ring.empty_at(place), place.round ^ 1);  // others might miss two rounds of a slot
    __syncwarp();
    if (from >= least && from + bytes <= most) {
      if (lane == 0) {
        barrier_expect(ring.full_at(place), bytes);
        copy_bytes(ring.slot(place), from, bytes, ring.full_at(place));
      } else {
        barrier_arrive_if(lane < arriving, ring.full_at(place));
      }
      continue;
    }
    Stored* to = reinterpret_cast<Stored*>(slots + place.slot * (PIECE * MULTIPLE));
    for (int i = lane; i < bytes / int(sizeof(Stored)); i += 32) {
      const Stored* at = reinterpret_cast<const Stored*>(from) + i;
      if (reinterpret_cast<const char*>(at) >= least && reinterpret_cast<const char*>(at) < most) to[i] = *at;
    }
    fence_shared();
    __syncwarp();
    barrier_arrive_if(lane < arriving, ring.full_at(place));
  }
}

/// Values of a set, and of a plane: sets have less than 2^30.
__device__ __forceinline__ int length_of(const Closing& a) { return static_cast<int>(a.length); }
__device__ __forceinline__ int volume_of(const Closing& a) { return static_cast<int>(a.at.values.c); }

/// A run of a share, in the set: where it begins and in which plane.
struct Spots {
  int first;     ///< Number of its first value in the set; below 0 where that lies in the set before.
  int channel;   ///< Of that, or of the set's first.
  int in_plane;  ///< The first value's number, counted from that plane's first.

  __device__ __forceinline__ Spots(const Closing& a, int first, int channel) : first(first) {
    const int plane = quotient(first < 0 ? 0 : first, a.at.volume);
    this->channel = channel + plane;
    in_plane = first - plane * volume_of(a);
  }
  /// Whether `count` values from here on lie in one plane of the set.
  __device__ __forceinline__ bool in_one_plane(const Closing& a, int count) const {
    return first >= 0 && first < length_of(a) && in_plane + count <= volume_of(a);
  }
  __device__ __forceinline__ bool inside(const Closing& a, int j) const {
    return first + j >= 0 && first + j < length_of(a);
  }
  /// A plane has at least as many values as a vector.
  __device__ __forceinline__ int channel_of(const Closing& a, int j) const {
    return channel + (in_plane + j >= volume_of(a) ? 1 : 0);
  }
};

typedef Neighbours<Stored, VECTOR> Vector;

/// Moments as blocks and warps hand them on, in four words.
typedef Collected<MOMENTS, S> Moments;
__device__ __forceinline__ float4 quad_of(const Moments& m) { return {m.count, m.first, m.second, 0.0f}; }
/// Of the moments in `parts`, one a lane, in every lane.
__device__ __forceinline__ Moments merged(const float4* parts, int count) {
  const int lane = threadIdx.x % 32;
  const float4 part = parts[lane < count ? lane : 0];
  Moments m = lane < count ? Moments{part.x, part.y, part.z} : Moments::none();
  m.merge_team(32);
  return m;
}

/// What the warps do that do not bring. A warp has EACH vectors a lane of a piece, which are neighbours across the
/// lanes: but at the ends of planes it has values of one channel, and nothing is asked for each of them.
struct Work {
  const Closing& a;
  const Operands& operands;
  const Ring& ring;
  char* slots;
  const Share& share;
  int warp, lane;

  __device__ __forceinline__ Vector* vectors(const Place& place) const {
    return reinterpret_cast<Vector*>(slots + place.slot * (PIECE * MULTIPLE)) + warp * (EACH * 32) + lane;
  }
  __device__ __forceinline__ Spots run(int piece) const {
    return {a, share.offset + (piece * PIECE + warp * (EACH * 32)) * VECTOR, share.channel};
  }
  /// Whether all of a piece is this warp's in one plane.
  __device__ __forceinline__ bool whole(int piece, const Spots& run) const {
    return (piece * WARPS + warp + 1) * (EACH * 32) <= share.vectors && run.in_one_plane(a, EACH * 32 * VECTOR);
  }
  /// Vector k of a lane, where it exists, at its place.
  template <class Handle>
  __device__ __forceinline__ void each_alone(int piece, Handle&& handle) const {
#pragma unroll 1
    for (int k = 0; k < EACH; ++k) {
      const int index = piece * PIECE + warp * (EACH * 32) + k * 32 + lane;
      if (index < share.vectors) handle(k, Spots(a, share.offset + index * VECTOR, share.channel));
    }
  }
  __device__ __forceinline__ S before(Stored v, int c, int at) const {
    return config::before(to_float(v), a, operands, share.n, c, share.first + at);
  }
  /// The number in the set of value i of a lane in a piece that is whole.
  __device__ __forceinline__ int number(const Spots& run, int i) const {
    return run.first + (i / VECTOR * 32 + lane) * VECTOR + i % VECTOR;
  }
  __device__ __forceinline__ void read(const Vector* here, Vector (&v)[EACH]) const {
#pragma unroll
    for (int k = 0; k < EACH; ++k) v[k] = here[k * 32];
  }
  /// A piece that is not whole: its values, and what the ring keeps.
  __device__ __forceinline__ void look_alone(int piece, Vector* here, Taken<MOMENTS, S>& taken) const {
    each_alone(piece, [&](int k, const Spots& at) {
      Vector read = here[k * 32];
#pragma unroll
      for (int j = 0; j < VECTOR; ++j) {
        if (!at.inside(a, j)) continue;
        const S v[1] = {before(read.v[j], at.channel_of(a, j), at.first + j)};
        taken.take(v, 1, taken.count == 0);
        if constexpr (KEEPS) read.v[j] = from_float<Stored>(v[0]);
      }
      if constexpr (KEEPS) here[k * 32] = read;
    });
  }

  /// First look: this warp's moments, in every lane. The ring keeps the values where it can.
  __device__ __forceinline__ Moments look(Place at) const {
    Taken<MOMENTS, S> taken;
    const int pieces = share.pieces();
    for (int piece = 0; piece < pieces; ++piece, at.next(ring.count)) {
      barrier_wait(ring.full_at(at), at.round);
      const Spots run = this->run(piece);
      Vector* here = vectors(at);
      if (!whole(piece, run)) {
        look_alone(piece, here, taken);
        continue;
      }
      Vector u[EACH];
      S v[EACH * VECTOR];
      read(here, u);
#pragma unroll
      for (int i = 0; i < EACH * VECTOR; ++i) v[i] = before(u[i / VECTOR].v[i % VECTOR], run.channel, number(run, i));
      if constexpr (KEEPS) {
#pragma unroll
        for (int i = 0; i < EACH * VECTOR; ++i) u[i / VECTOR].v[i % VECTOR] = from_float<Stored>(v[i]);
#pragma unroll
        for (int k = 0; k < EACH; ++k) here[k * 32] = u[k];
      }
      taken.take(v, EACH * VECTOR, taken.count == 0);
    }
    if constexpr (KEEPS) fence_shared();  // what was kept, before the copies that take its place
    Moments own = taken.collected();
    __syncwarp();
    own.merge_team(32);
    return own;
  }

  /// Second look: results.
  __device__ __forceinline__ void leave(S mean, S scale, Place& place) const {
    Out* const out = static_cast<Out*>(a.out) + share.first;
    const bool together = in_place_for<Out, VECTOR>(out + share.offset);
    const int pieces = share.pieces();
    int known = -1;  // the channel of `factor` and `shift`
    S factor = S(0), shift = S(0);
    const auto know = [&](int c) {
      if (known == c) return;
      known = c, factor = scale;
      if constexpr (config::WEIGHT) factor *= to_float(static_cast<const Element*>(a.weight)[c]);
      if constexpr (config::BIAS) shift = to_float(static_cast<const Element*>(a.bias)[c]);
    };
    const auto value = [&](Stored v, int c, int at) {
      if constexpr (KEEPS) return S(to_float(v));
      return before(v, c, at);
    };
    const auto result = [&](S v, int c, int at) {
      return from_float<Out>(config::middle((v - mean) * factor + shift, a, operands, share.n, c, share.first + at));
    };
    for (int piece = 0; piece < pieces; ++piece, place.next(ring.count)) {
      const Spots run = this->run(piece);
      const Vector* here = vectors(place);
      if (together && whole(piece, run)) {
        Vector u[EACH];
        read(here, u);
        know(run.channel);
#pragma unroll
        for (int k = 0; k < EACH; ++k) {
          const int first = number(run, k * VECTOR);
          Neighbours<Out, VECTOR> to;
#pragma unroll
          for (int j = 0; j < VECTOR; ++j)
            to.v[j] = result(value(u[k].v[j], run.channel, first + j), run.channel, first + j);
          *reinterpret_cast<Neighbours<Out, VECTOR>*>(out + first) = to;
        }
      } else {
        each_alone(piece, [&](int k, const Spots& at) {
          const Vector u = here[k * 32];
#pragma unroll
          for (int j = 0; j < VECTOR; ++j) {
            if (!at.inside(a, j)) continue;
            const int c = at.channel_of(a, j);
            know(c);
            out[at.first + j] = result(value(u.v[j], c, at.first + j), c, at.first + j);
          }
        });
      }
      __syncwarp();
      barrier_arrive_if(lane < arriving, ring.empty_at(place));
    }
  }
};

}  // namespace upconv::closing

// Elsewhere an empty kernel, which nobody launches.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
extern "C" __global__ void closing_sets(const upconv::arguments::Closing, const config::Operands) {}
#else
extern "C" __global__ void __cluster_dims__(config::CLUSTER, 1, 1) __launch_bounds__(upconv::arguments::set_threads, 1)
    closing_sets(const upconv::arguments::Closing a, const config::Operands operands) {
  using namespace upconv;
  using namespace upconv::closing;
  let_next_begin();
  extern __shared__ __align__(128) char slots[];
  __shared__ u64 barriers[2 * SLOTS + 2];
  __shared__ float4 of_warps[WARPS];
  __shared__ float4 of_blocks[2][CLUSTER];  // of this set and the next
  Ring ring{shared_address(slots), shared_address(barriers), shared_address(barriers + SLOTS), int(a.shares)};
  ring.hold();
  const u32 heard = shared_address(barriers + 2 * SLOTS);  // what all blocks send of a set has come
  if (threadIdx.x == 0) {
    for (int i = 0; i < ring.count; ++i) {
      barrier_init(ring.full + i * 8, arriving);
      barrier_init(ring.empty + i * 8, WARPS * arriving);
    }
    barrier_init(heard, arriving), barrier_init(heard + 8, arriving);
    barriers_ready();
  }
  after_previous();
  meet_cluster();
  const int warp = static_cast<int>(threadIdx.x / 32), lane = threadIdx.x % 32;
  // The sets of a cluster are its own number's and every `clusters`-th from there on.
  const i64 clusters = gridDim.x / CLUSTER;
  i64 index = blockIdx.x / CLUSTER;
  const auto share_of = [&](i64 i) { return Share(a, a.backwards ? a.units - 1 - i : i); };
  Place place;
  if (warp == WARPS) {
    for (; index < a.units; index += clusters) bring(a, ring, slots, share_of(index), place);
    return;
  }
  for (int turn = 0, round = 0; index < a.units; index += clusters, turn ^= 1, round ^= turn == 0) {
    const Share share = share_of(index);
    const Work work{a, operands, ring, slots, share, warp, lane};
    const Moments own = work.look(place);
    if (lane == 0) of_warps[warp] = quad_of(own);
    __syncwarp();
    const u32 heard_now = heard + turn * 8;
    if (warp == 0) {
      meet(1, WARPS * 32);
      const float4 of_all = quad_of(merged(of_warps, WARPS));
      if constexpr (CLUSTER == 1) {
        if (lane == 0) of_blocks[turn][0] = of_all;
        barrier_arrive_if(lane < arriving, heard_now);
      } else {
        if (lane == 0)
          barrier_expect(heard_now, CLUSTER * 16);
        else
          barrier_arrive_if(lane < arriving, heard_now);
        // A block that sends of the next set but one has heard of the next from this block, whose warps have read this
        // one's by then.
        if (lane < CLUSTER)
          send_quad(address_in(lane, shared_address(&of_blocks[turn][rank_in_cluster()])), of_all,
                    address_in(lane, heard_now));
      }
    } else {
      arrive_only(1, WARPS * 32);
    }
    barrier_wait(heard_now, round);
    const Moments all = merged(of_blocks[turn], CLUSTER);
    const S scale = config::CENTER ? S(1) : S(1) / root(all.second / all.count + S(config::EPS));
    if (a.saved && rank_in_cluster() == 0 && threadIdx.x == 0)
      static_cast<S*>(a.saved)[2 * share.set] = all.first, static_cast<S*>(a.saved)[2 * share.set + 1] = scale;
    work.leave(all.first, scale, place);
  }
}
#endif
