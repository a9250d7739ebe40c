// Bulk copies (cp.async.bulk, with and without a tensor map), which the asynchronous proxy carries out. Called by
// translated device code through cuda.hpp.
//
// Where late() says so, a load lands at a drawn moment, at the latest when no thread can run; until then its
// destination is NaN. A store reads shared memory when its group is waited for, and writes when that is waited for
// without `.read` or its thread returns.
#include <algorithm>
#include <cstring>

#include "emulator/memory.hpp"
#include "emulator/runtime.hpp"
#include "emulator/tensor_map.hpp"

using namespace emulator;

namespace emulator {

/// Bytes from shared to global memory.
struct BulkStore {
  struct Part {
    unsigned from, at, bytes;  ///< In shared memory; in `data`.
    char* to;
  };
  std::vector<Part> parts;
  std::vector<char> data;
  bool has_read = false, has_written = false;

  void read() {
    if (has_read) return;
    has_read = true;
    for (const Part& p : parts) std::memcpy(data.data() + p.at, view_at(p.from, p.bytes), p.bytes);
  }
  void write() {
    read();
    if (has_written) return;
    has_written = true;
    for (const Part& p : parts) std::memcpy(p.to, data.data() + p.at, p.bytes);
  }
};

}  // namespace emulator

namespace {

constexpr unsigned most_pieces_apart = 16;  // bytes that a swizzle keeps together

/// Fails here, with the thread that asks for it, where memory cannot be read.
void probe(const char* from, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 1024) (void)*const_cast<volatile const char*>(from + i);
  if (bytes) (void)*const_cast<volatile const char*>(from + bytes - 1);
}

void check_multiple(const char* what, std::uint64_t value, unsigned of, const char* instruction) {
  if (value % of != 0)
    fail(std::string(instruction) + ": the " + what + " is no multiple of " + std::to_string(of) + " bytes");
}

/// That `bytes` bytes of shared memory lie at an address of the cluster.
void check_shared(unsigned address, unsigned bytes, const char* instruction) {
  if (!bytes_at(address, bytes))
    fail(std::string(instruction) + ": " + std::to_string(bytes) + " bytes at byte " +
         std::to_string(static_cast<long long>(in_block(address)) - shared_start) + " are outside shared memory");
}

void write_both(unsigned address, const char* from, unsigned bytes) {
  char *memory = bytes_at(address, bytes), *view = view_at(address, bytes);
  if (from) {
    std::memcpy(memory, from, bytes);
    if (view != memory) std::memcpy(view, from, bytes);
  } else {
    std::memset(memory, 0xff, bytes);
    if (view != memory) std::memset(view, 0xff, bytes);
  }
}

/// A destination, and the barrier that is told.
struct Target {
  unsigned to, barrier;
};
/// mask < 0: the one that the addresses name, else the same places in the blocks of that mask.
std::vector<Target> targets_of(unsigned to, unsigned barrier, int mask, unsigned bytes, const char* instruction) {
  std::vector<Target> targets;
  if (mask < 0) {
    if (rank_of(to) != rank_of(barrier))
      fail(std::string(instruction) + ": destination and mbarrier are of different blocks");
    targets.push_back({to, barrier});
  }
  if (mask == 0) fail(std::string(instruction) + ": a multicast to no block");
  for (unsigned rank = 0; mask > 0 && mask >> rank; ++rank)
    if (mask >> rank & 1)
      targets.push_back({in_block(to) | rank << rank_shift, in_block(barrier) | rank << rank_shift});
  for (const Target& t : targets) {
    Block& block = peer(rank_of(t.to));
    mbarrier_at(t.barrier, true);
    check_shared(t.to, bytes, instruction);
    ++block.landing;
  }
  return targets;
}

/// Moves the pieces into each target's memory and tells its barrier, now or later. `place` says where a byte lies.
template <class Place>
void load(std::vector<Target> targets, std::vector<Piece> pieces, unsigned bytes, Place place, char fill, bool round) {
  for (const Piece& p : pieces)
    if (p.global) probe(p.global, p.bytes);
  if (late())
    for (const Target& t : targets) write_both(t.to, nullptr, bytes);
  const auto land = [=] {
    std::vector<char> box(bytes, fill);
    for (const Piece& p : pieces)
      if (p.global) std::memcpy(box.data() + p.at, p.global, p.bytes);
    if (round)
      for (unsigned i = 0; i < bytes; i += 4) {
        float v;
        std::memcpy(&v, box.data() + i, 4);
        const unsigned rounded = emu::tf32_rn(v);
        std::memcpy(box.data() + i, &rounded, 4);
      }
    for (const Target& t : targets) {
      for (unsigned i = 0; i < bytes; i += most_pieces_apart)
        write_both(place(t.to, i), box.data() + i, most_pieces_apart);
      --peer(rank_of(t.to)).landing;
      count_bytes(mbarrier_at(t.barrier, true), bytes);
    }
  };
  if (late())
    later(land, false);
  else
    land();
}

unsigned linear(unsigned address, unsigned at) { return address + at; }

void check_swizzle(const TensorMap& map, const char* instruction) {
  if (map.swizzle && map.box[0] * bytes_of(map.element) != 16u << map.swizzle)
    fail(std::string(instruction) + ": the emulator knows swizzles of boxes as wide as the swizzle only");
}

void begin(std::shared_ptr<BulkStore> store) {
  if (!late()) store->write();
  self().stores.back().push_back(std::move(store));
}

}  // namespace

namespace emulator {

void finish_stores(Fiber& fiber) {
  for (const auto& group : fiber.stores)
    for (const auto& store : group) {
      if (!store->has_read) fail("a thread returned before its bulk stores were waited for");
      store->write();
    }
  if (fiber.stores.size() > 1 || !fiber.stores[0].empty()) fiber.stores.assign(1, {});
}

}  // namespace emulator

extern "C" {

void emu_bulk_load(unsigned to, const void* from, unsigned bytes, unsigned barrier, int mask) {
  needs_previous();
  constexpr const char* name = "cp.async.bulk";
  check_multiple("size", bytes, 16, name);
  check_multiple("destination", to, 16, name);
  check_multiple("source", reinterpret_cast<std::uintptr_t>(from), 16, name);
  auto* source = static_cast<char*>(const_cast<void*>(from));
  load(targets_of(to, barrier, mask, bytes, name), {{source, 0, bytes}}, bytes, linear, 0, false);
}

void emu_bulk_send(unsigned to, unsigned from, unsigned bytes, unsigned barrier) {
  constexpr const char* name = "cp.async.bulk from shared memory";
  check_multiple("size", bytes, 16, name);
  check_multiple("destination", to, 16, name);
  check_multiple("source", from, 16, name);
  if (rank_of(from) != emu_self->rank) fail(std::string(name) + ": the source is another block's");
  check_shared(from, bytes, name);
  load(targets_of(to, barrier, -1, bytes, name), {{view_at(from, bytes), 0, bytes}}, bytes, linear, 0, false);
}

void emu_tensor_load(int rank, unsigned to, const void* p, const int* at, unsigned barrier, int mask) {
  needs_previous();
  constexpr const char* name = "cp.async.bulk.tensor";
  const TensorMap& map = map_at(p, rank);
  check_multiple("destination", to, 128, name);
  check_swizzle(map, name);
  // Measured on an H200: else an illegal instruction.
  check_multiple("first column", static_cast<unsigned>(at[0]) * bytes_of(map.element), 16, name);
  const unsigned bytes = box_bytes(map);
  const TensorMap copy = map;
  load(
      targets_of(to, barrier, mask, bytes, name), pieces_of(map, at), bytes,
      [copy](unsigned address, unsigned i) { return placed(copy, address, i); },
      static_cast<char>(map.fill_nan ? 0xff : 0), map.element == Element::tf32);
}

void emu_bulk_store(void* to, unsigned from, unsigned bytes) {
  needs_previous();
  constexpr const char* name = "a bulk store";
  check_multiple("size", bytes, 16, name);
  check_multiple("destination", reinterpret_cast<std::uintptr_t>(to), 16, name);
  check_multiple("source", from, 16, name);
  if (rank_of(from) != emu_self->rank) fail(std::string(name) + ": the source is another block's");
  check_shared(from, bytes, name);
  probe(static_cast<const char*>(to), bytes);
  auto store = std::make_shared<BulkStore>();
  store->parts.push_back({from, 0, bytes, static_cast<char*>(to)});
  store->data.resize(bytes);
  begin(std::move(store));
}

void emu_tensor_store(int rank, const void* p, const int* at, unsigned from) {
  needs_previous();
  constexpr const char* name = "a bulk store of a tensor";
  const TensorMap& map = map_at(p, rank);
  check_multiple("source", from, 128, name);
  check_swizzle(map, name);
  if (rank_of(from) != emu_self->rank) fail(std::string(name) + ": the source is another block's");
  const unsigned bytes = box_bytes(map);
  check_shared(from, bytes, name);
  auto store = std::make_shared<BulkStore>();
  store->data.resize(bytes);
  for (const Piece& piece : pieces_of(map, at)) {
    if (!piece.global) continue;
    probe(piece.global, piece.bytes);
    for (unsigned done = 0; done < piece.bytes;) {  // a swizzle keeps what lies between multiples of 16 bytes together
      const unsigned at_byte = piece.at + done,
                     n = std::min(piece.bytes - done, most_pieces_apart - at_byte % most_pieces_apart);
      store->parts.push_back({placed(map, from, at_byte), at_byte, n, piece.global + done});
      done += n;
    }
  }
  begin(std::move(store));
}

void emu_store_async(unsigned to, const unsigned* words, int count, unsigned barrier) {
  constexpr const char* name = "st.async";
  const unsigned bytes = static_cast<unsigned>(count) * 4;
  check_multiple("destination", to, bytes, name);
  const std::vector<unsigned> kept(words, words + count);
  const Target target = targets_of(to, barrier, -1, bytes, name)[0];
  const auto land = [=] {
    write_both(target.to, reinterpret_cast<const char*>(kept.data()), bytes);
    --peer(rank_of(target.to)).landing;
    count_bytes(mbarrier_at(target.barrier, true), bytes);
  };
  if (late())
    later(land, false);
  else
    land();
}

void emu_bulk_commit() { self().stores.emplace_back(); }
void emu_bulk_wait(int pending, int read_only) {
  auto& groups = self().stores;
  const std::size_t leave = static_cast<std::size_t>(pending) + 1;
  for (std::size_t i = 0; i + leave < groups.size(); ++i)
    for (const auto& store : groups[i]) read_only ? store->read() : store->write();
  if (!read_only)
    while (groups.size() > leave) groups.erase(groups.begin());
}

void emu_prefetch_map(const void* p) { map_at(p, static_cast<const TensorMap*>(p)->rank); }

}  // extern "C"
