// Two generations of plans: when the young one is full it becomes the old one and what was old is dropped,
// so a program with ever new lengths keeps a bounded number and a plan in use is kept.
#include "plan_cache.hpp"

#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <unordered_map>

namespace upconv::binding {
namespace {

constexpr std::size_t generation = 512;

struct Key {
  Problem problem;
  Epilogue epilogue;
  Device device;
  bool operator==(const Key&) const = default;
};

/// FNV over 64-bit words with a final spread; the fields of a Problem are small integers.
struct Mixer {
  std::uint64_t state = 0xcbf29ce484222325u;
  void add(std::uint64_t v) { state = (state ^ v) * 0x9e3779b97f4a7c15u, state ^= state >> 29; }
  void add(const Extent& e, int rank) {
    for (int d = 0; d < rank; ++d) add(static_cast<std::uint64_t>(e[d]));
  }
};

struct Hash {
  std::size_t operator()(const Key& key) const {
    const Problem& p = key.problem;
    Mixer m;
    m.add(static_cast<std::uint64_t>(p.rank) | static_cast<std::uint64_t>(p.dtype) << 8 |
          static_cast<std::uint64_t>(p.x_layout) << 16 | static_cast<std::uint64_t>(p.w_layout) << 17 |
          static_cast<std::uint64_t>(p.y_layout) << 18 | static_cast<std::uint64_t>(p.bias) << 19 |
          static_cast<std::uint64_t>(p.precision) << 20 | static_cast<std::uint64_t>(key.device.kind) << 24 |
          static_cast<std::uint64_t>(key.device.index) << 28);
    for (std::int64_t v : {p.batch, p.in_channels, p.out_channels, p.groups}) m.add(static_cast<std::uint64_t>(v));
    for (const Extent* e : {&p.input, &p.kernel, &p.stride, &p.padding, &p.output_padding, &p.dilation})
      m.add(*e, p.rank);
    for (const EpilogueStep& s : key.epilogue.steps) {
      std::uint64_t a = 0, b = 0;
      std::memcpy(&a, &s.a, sizeof a);
      std::memcpy(&b, &s.b, sizeof b);
      m.add(static_cast<std::uint64_t>(s.activation));
      m.add(a);
      m.add(b);
    }
    return static_cast<std::size_t>(m.state);
  }
};

class Cache {
 public:
  std::shared_ptr<const Plan> find_or_create(const Key& key) {
    {
      std::shared_lock lock(mutex_);
      if (const auto it = young_.find(key); it != young_.end()) return it->second;
    }
    std::shared_ptr<const Plan> plan = take_from_old(key);
    if (!plan) {
      // Built outside the lock: two threads may build the same plan once; the first one stored is kept.
      auto made = Plan::create(key.problem, key.device, key.epilogue);
      if (!made.ok()) throw std::runtime_error(made.status().message());
      plan = std::move(*made);
    }
    std::unique_lock lock(mutex_);
    if (young_.size() >= generation) {
      old_ = std::move(young_);
      young_.clear();
    }
    return young_.emplace(key, std::move(plan)).first->second;
  }

  void clear() {
    std::unique_lock lock(mutex_);
    young_.clear();
    old_.clear();
  }

 private:
  std::shared_ptr<const Plan> take_from_old(const Key& key) {
    std::shared_lock lock(mutex_);
    const auto it = old_.find(key);
    return it == old_.end() ? nullptr : it->second;
  }

  std::shared_mutex mutex_;
  std::unordered_map<Key, std::shared_ptr<const Plan>, Hash> young_, old_;
};

Cache& plans() {
  // Never destroyed: torch's threads may outlive static destructors at exit.
  static Cache* cache = new Cache;
  return *cache;
}

}  // namespace

std::shared_ptr<const Plan> plan_for(const Problem& problem, const Epilogue& epilogue, Device device) {
  return plans().find_or_create({problem, epilogue, device});
}

void forget_plans() { plans().clear(); }

}  // namespace upconv::binding
