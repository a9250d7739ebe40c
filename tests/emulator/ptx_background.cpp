// PTX of what works beside the threads and between blocks, as C++: mbarriers, bulk copies, tensor maps, clusters,
// fences. See ptx_words.hpp; what comes out calls copies.cpp, bulk.cpp and runtime.cpp.
#include <cctype>
#include <cstdlib>
#include <initializer_list>

#include "emulator/ptx_words.hpp"

namespace emulator::ptx {
namespace {

std::string unsigned_of(const std::string& text) { return "static_cast<unsigned>(" + operand(text) + ")"; }
std::string pointer_of(const std::string& text) { return "reinterpret_cast<void*>(" + text + ")"; }

/// Whether every word from the `from`-th on is one of `known`.
bool only(const Words& op, std::size_t from, std::initializer_list<std::string_view> known) {
  for (std::size_t i = from; i < op.size(); ++i) {
    bool found = false;
    for (const std::string_view k : known) found = found || op[i] == k;
    if (!found) return false;
  }
  return true;
}

bool own_memory(const Words& op) { return has(op, "shared") || has(op, "shared::cta"); }
bool cluster_memory(const Words& op) { return has(op, "shared::cluster"); }

std::string mbarrier(const Words& op, const Words& a, std::string_view whole) {
  const bool remote = cluster_memory(op);
  const std::string kind = op.size() > 1 ? op[1] : "", any = remote ? "1" : "0";
  if (op.back() != "b64" || own_memory(op) == remote || a.empty()) return unknown(whole);
  if (kind == "init" && a.size() == 2 && !remote)
    return "emu_mbarrier_init(" + address(a[0]) + ", " + unsigned_of(a[1]) + ");";
  if (kind == "inval" && a.size() == 1 && !remote) return "emu_mbarrier_inval(" + address(a[0]) + ");";
  if ((kind == "expect_tx" || kind == "complete_tx") && a.size() == 2) {
    const std::string bytes = unsigned_of(a[1]);
    return "emu_mbarrier_bytes(" + address(a[0]) + ", " + (kind[0] == 'e' ? bytes + ", 0, " : "0, " + bytes + ", ") +
           any + ");";
  }
  if (kind == "arrive" && !has(op, "noComplete") && a.size() >= 2) {
    const bool expects = has(op, "expect_tx");
    if (a.size() > 3 || (expects && a.size() != 3) || (remote && a[0] != "_")) return unknown(whole);
    const std::string third = a.size() > 2 ? unsigned_of(a[2]) : "1u",
                      call = "emu_mbarrier_arrive(" + address(a[1]) + ", " +
                             (expects ? "1u, " + third : third + ", 0u") + ", " + any + ")";
    return a[0] == "_" ? call + ";" : "::emu::set(" + operand(a[0]) + ", " + call + ");";
  }
  // By parity, or by the state that an arrival gave, whose lowest bit is the phase.
  if (kind == "try_wait" && !remote && (a.size() == 3 || a.size() == 4))
    return "emu_mbarrier_wait(" + address(a[1]) + ", " + unsigned_of(a[2]) + "), " + operand(a[0]) + " = true;";
  if (kind == "test_wait" && !remote && a.size() == 3)
    return operand(a[0]) + " = emu_mbarrier_test(" + address(a[1]) + ", " + unsigned_of(a[2]) + ") != 0;";
  return unknown(whole);
}

/// "[map, {c0, c1}]": the statement that makes `at_`, and the map's address; false where it is no such operand.
bool tensor_operand(std::string_view text, int rank, std::string& coordinates, std::string& map) {
  std::string s = trimmed(text);
  if (s.size() < 2 || s.front() != '[' || s.back() != ']') return false;
  const Words parts = split(s.substr(1, s.size() - 2), ',');
  if (parts.size() != 2 || parts[1].empty() || parts[1].front() != '{') return false;
  const Words at = operands_of(parts[1]);
  if (at.size() != static_cast<std::size_t>(rank)) return false;
  coordinates = "const int at_[] = {" + listed(at, "(int)") + "};";
  map = pointer_of(operand(parts[0]));
  return true;
}

std::string bulk(const Words& op, const Words& a, std::string_view whole) {
  if (op.size() == 4 && op[3] == "commit_group" && a.empty()) return "emu_bulk_commit();";
  if (op[3] == "wait_group" && a.size() == 1 && only(op, 4, {"read"}))
    return "emu_bulk_wait(static_cast<int>(" + operand(a[0]) + "), " + (op.size() > 4 ? "1" : "0") + ");";
  if (op[3] == "prefetch") return "/* prefetch */;";
  const bool tensor = op[3] == "tensor";
  const std::size_t spaces = tensor ? 5 : 3;
  if (op.size() < spaces + 3) return unknown(whole);
  const int rank = tensor && op[4].size() == 2 && op[4][1] == 'd' ? op[4][0] - '0' : 0;
  if (tensor && (rank < 1 || rank > 5)) return unknown(whole);
  const std::string &to = op[spaces], &from = op[spaces + 1];
  const bool hint = has(op, "L2::cache_hint"), multicast = has(op, "multicast::cluster");
  const std::size_t extra = (hint ? 1 : 0) + (multicast ? 1 : 0);
  std::string coordinates, map;
  if ((to == "shared::cluster" || to == "shared::cta") && (from == "global" || (from == "shared::cta" && !tensor))) {
    if (!has(op, "mbarrier::complete_tx::bytes") || a.size() != (tensor ? 3 : 4) + extra ||
        (multicast && to != "shared::cluster") ||
        !only(op, spaces + 2, {"tile", "mbarrier::complete_tx::bytes", "multicast::cluster", "L2::cache_hint"}) ||
        (has(op, "tile") && !tensor))
      return unknown(whole);
    const std::size_t barrier = tensor ? 2 : 3;
    const std::string mask = multicast ? "(int)(" + operand(a[barrier + 1]) + ")" : "-1";
    if (from == "shared::cta")
      return extra ? unknown(whole)
                   : "emu_bulk_send(" + address(a[0]) + ", " + address(a[1]) + ", " + unsigned_of(a[2]) + ", " +
                         address(a[3]) + ");";
    if (!tensor)
      return "emu_bulk_load(" + address(a[0]) + ", " + pointer_of(address(a[1])) + ", " + unsigned_of(a[2]) + ", " +
             address(a[3]) + ", " + mask + ");";
    if (!tensor_operand(a[1], rank, coordinates, map)) return unknown(whole);
    return "{ " + coordinates + " emu_tensor_load(" + std::to_string(rank) + ", " + address(a[0]) + ", " + map +
           ", at_, " + address(a[2]) + ", " + mask + "); }";
  }
  if (to == "global" && from == "shared::cta" && has(op, "bulk_group") &&
      only(op, spaces + 2, {"tile", "bulk_group", "L2::cache_hint"}) && a.size() == (tensor ? 2 : 3) + extra) {
    if (!tensor)
      return "emu_bulk_store(" + pointer_of(address(a[0])) + ", " + address(a[1]) + ", " + unsigned_of(a[2]) + ");";
    if (!tensor_operand(a[0], rank, coordinates, map)) return unknown(whole);
    return "{ " + coordinates + " emu_tensor_store(" + std::to_string(rank) + ", " + map + ", at_, " + address(a[1]) +
           "); }";
  }
  return unknown(whole);
}

/// st.async: one, two or four words of 32 bits to a block of the cluster, counted by a barrier there.
std::string store_async(const Words& op, const Words& a, std::string_view whole) {
  const Words values = a.size() == 3 ? operands_of(a[1]) : Words{};
  const std::size_t count = has(op, "v2") ? 2 : has(op, "v4") ? 4 : 1;
  if (!cluster_memory(op) || !has(op, "mbarrier::complete_tx::bytes") || bytes_of(op.back()) != 4 ||
      values.size() != count)
    return unknown(whole);
  std::string words;
  for (const std::string& v : values) words += (words.empty() ? "" : ", ") + ("::emu::bits<unsigned>(" + v + ")");
  return "{ const unsigned words_[] = {" + words + "}; emu_store_async(" + address(a[0]) + ", words_, " +
         std::to_string(count) + ", " + address(a[2]) + "); }";
}

std::string barrier(const Words& op, const Words& a, std::string_view whole) {
  if (has(op, "cluster")) {
    const std::string aligned = has(op, "aligned") ? "1" : "0";
    // Relaxed, ptxas leaves loads from other blocks on their way behind the arrival: right here, wrong on a GPU.
    if (has(op, "arrive") && has(op, "relaxed")) return unknown(whole);
    if (has(op, "arrive")) return "emu_cluster_arrive(" + aligned + ");";
    if (has(op, "wait")) return "emu_cluster_wait(" + aligned + ");";
    return unknown(whole);
  }
  if (a.empty()) return unknown(whole);
  if (has(op, "warp")) return "emu_syncwarp(" + unsigned_of(a[0]) + ");";
  const std::string threads = a.size() > 1 ? "static_cast<int>(" + operand(a[1]) + ")" : "-1";
  if (has(op, "sync")) return "emu_barrier(" + unsigned_of(a[0]) + ", " + threads + ");";
  if (has(op, "arrive") && a.size() > 1) return "emu_barrier_arrive(" + unsigned_of(a[0]) + ", " + threads + ");";
  return unknown(whole);
}

}  // namespace

std::string background(const Words& op, const Words& a, std::string_view whole) {
  const std::string &first = op[0], second = op.size() > 1 ? op[1] : "", third = op.size() > 2 ? op[2] : "";
  if (first == "mbarrier") return mbarrier(op, a, whole);
  if (first == "cp" && second == "async" && third == "bulk") return op.size() > 3 ? bulk(op, a, whole) : unknown(whole);
  if (first == "cp" && second == "async" && third == "mbarrier" && a.size() == 1)
    return "emu_copy_arrive(" + address(a[0]) + ", " + (has(op, "noinc") ? "1" : "0") + ");";
  if (first == "st" && second == "async") return store_async(op, a, whole);
  if (first == "bar" || first == "barrier") return barrier(op, a, whole);
  if (first == "fence" && has(op, "proxy") && has(op, "async")) return "emu_fence_barriers(), emu_proxy_fence();";
  if (first == "fence" && has(op, "mbarrier_init")) return "emu_fence_barriers();";
  if (first == "griddepcontrol" && second == "wait") return "emu_after_previous();";
  if (first == "fence" || first == "membar" || first == "griddepcontrol") return "/* " + first + " */;";
  if (first == "prefetch" && second == "tensormap" && a.size() == 1)
    return "emu_prefetch_map(" + pointer_of(address(a[0])) + ");";
  if (first == "prefetch" || first == "prefetchu") return "/* prefetch */;";
  if (first == "createpolicy" && !a.empty()) return "::emu::set(" + operand(a[0]) + ", 0ull);";
  if (first == "nanosleep") return "emu_yield();";
  if (first == "setmaxnreg" && a.size() == 1) return "emu_registers(" + unsigned_of(a[0]) + ");";
  if (first == "mapa" && a.size() == 3 && second == "shared::cluster" && third == "u32")
    return "::emu::set(" + operand(a[0]) + ", emu_map_rank(" + operand(a[1]) + ", " + unsigned_of(a[2]) + "));";
  if (first == "mapa" && a.size() == 3 && second == "u64")
    return "::emu::set(" + operand(a[0]) + ", reinterpret_cast<unsigned long long>(emu_map_pointer(" +
           pointer_of(operand(a[1])) + ", " + unsigned_of(a[2]) + ")));";
  if (first == "getctarank" && second == "shared::cluster" && a.size() == 2)
    return "::emu::set(" + operand(a[0]) + ", static_cast<unsigned>(" + operand(a[1]) + ") >> 24);";
  if (first == "elect" && second == "sync" && a.size() == 2) {
    const Words d = split(a[0], '|');
    const std::string mask = unsigned_of(a[1]);
    if (d.size() == 2)
      return operand(d[1]) + " = emu_elect(" + mask + ") != 0;" +
             (d[0] == "_" ? "" : " ::emu::set(" + operand(d[0]) + ", __builtin_ctz(" + mask + "));");
  }
  return {};
}

}  // namespace emulator::ptx
