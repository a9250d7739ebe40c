// Whether a kernel that may begin beside the end of the one before it (kernels/ptx/dependents.cuh) waits for that end
// before it touches global memory, and takes none of it for constant: asked of its machine code, since the assembler
// moves such loads. Called by compile.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace upconv::test {

/// What is wrong with a kernel's instructions, or nullptr. Opcodes of sm_90 to sm_120, as nvdisasm names them; that
/// every thread comes by the wait is what the emulator looks at. `tables`: it has constant arrays of its own in memory,
/// and loads of these are not told from others.
inline const char* wrong_beginning(std::string_view code, bool tables) {
  constexpr std::uint64_t wait = 0x82e /* ACQBULK */, let_begin = 0x82d /* PREEXIT */, leave = 0x94d /* EXIT */;
  constexpr std::uint64_t load = 0x181 /* LDG */, constant = 4 /* LDG.CONSTANT */;
  // The lower nine bits; the others are the form of an operand. LD LDG ST STG ATOM ATOM.CAS RED CCTL ATOM REDG ATOMG
  // ATOMG.CAS LDGSTS UTMALDG UTMASTG UBLKCP UBLKRED UBLKPF
  constexpr std::uint64_t global[] = {0x180, 0x181, 0x185, 0x186, 0x18a, 0x18b, 0x18e, 0x18f, 0x1a2,
                                      0x1a6, 0x1a8, 0x1a9, 0x1ae, 0x1b4, 0x1b5, 0x1ba, 0x1bb, 0x1bc};
  bool lets_begin = false, has_waited = false;
  for (std::size_t at = 0; at + 16 <= code.size(); at += 16) {
    std::uint64_t word = 0, upper = 0;
    std::memcpy(&word, code.data() + at, sizeof word);
    std::memcpy(&upper, code.data() + at + 8, sizeof upper);
    const bool for_constant = (word & 0x1ff) == load && (upper >> 13 & 7) == constant;
    if (!tables && for_constant) return "takes global memory for constant";
    if (has_waited || for_constant) continue;
    const std::uint64_t opcode = word & 0xfff;
    const bool always = (word >> 12 & 15) == 7;  // no predicate
    if (opcode == let_begin && always) lets_begin = true;
    has_waited = opcode == wait && always;
    if (has_waited && !lets_begin) return "waits for the kernel before it without let_next_begin()";
    if (has_waited) continue;
    if (opcode == leave) return "may return before after_previous()";
    if (std::find(std::begin(global), std::end(global), opcode & 0x1ff) != std::end(global))
      return "touches global memory before after_previous()";
  }
  return has_waited ? nullptr : "has no after_previous()";
}

}  // namespace upconv::test
