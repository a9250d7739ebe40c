// See cubin.hpp. The section ".nv.info" is a list of records: a byte of form, a byte of attribute, 16 bits of size;
// form 4 is followed by that many bytes. Those used here hold a function's symbol number and a value.
#include "jit/cubin.hpp"

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace upconv::jit {
namespace {

constexpr std::uint8_t sized_form = 0x04, frame_size = 0x11, register_count = 0x2f;
constexpr int reserved_shared = 1024;  ///< That sm_90 and later keep of every block, counted in the section.

/// Reads T at `offset` when it lies inside `bytes`.
template <class T>
bool read(std::string_view bytes, std::size_t offset, T& value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof value) return false;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return true;
}

std::string_view part(std::string_view bytes, std::size_t offset, std::size_t size) {
  return offset > bytes.size() || bytes.size() - offset < size ? std::string_view{} : bytes.substr(offset, size);
}

std::string_view name_at(std::string_view table, std::size_t offset) {
  if (offset >= table.size()) return {};
  const std::string_view rest = table.substr(offset);
  return rest.substr(0, rest.find('\0'));
}

struct Section {
  std::string_view name, content;
  Elf64_Shdr header;
};

std::vector<Section> sections_of(std::string_view elf) {
  Elf64_Ehdr head;
  std::vector<Section> all;
  if (!read(elf, 0, head) || std::memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 || head.e_ident[EI_CLASS] != ELFCLASS64)
    return all;
  for (int i = 0; i < head.e_shnum; ++i) {
    Section s{};
    if (!read(elf, head.e_shoff + std::size_t{head.e_shentsize} * static_cast<std::size_t>(i), s.header)) return {};
    if (s.header.sh_type != SHT_NOBITS) s.content = part(elf, s.header.sh_offset, s.header.sh_size);
    all.push_back(s);
  }
  if (head.e_shstrndx >= all.size()) return {};
  const std::string_view names = all[head.e_shstrndx].content;
  for (Section& s : all) s.name = name_at(names, s.header.sh_name);
  return all;
}

}  // namespace

Result<Resources> resources_of(std::string_view cubin, std::string_view entry) {
  const std::vector<Section> sections = sections_of(cubin);
  const Section* symbols = nullptr;
  const Section* info = nullptr;
  bool reserves = false;
  Resources found;
  for (const Section& s : sections) {
    if (s.header.sh_type == SHT_SYMTAB) symbols = &s;
    if (s.name == ".nv.info") info = &s;
    if (s.name == ".nv.shared.reserved.0") reserves = true;
    if (s.name.starts_with(".nv.shared.") && s.name.substr(11) == entry)
      found.static_shared_bytes = static_cast<int>(s.header.sh_size);
  }
  if (!symbols || !info || symbols->header.sh_link >= sections.size())
    return Status(Code::internal, "not the machine code of a kernel");
  if (reserves && found.static_shared_bytes >= reserved_shared) found.static_shared_bytes -= reserved_shared;

  const std::string_view names = sections[symbols->header.sh_link].content;
  std::uint32_t wanted = 0;
  Elf64_Sym symbol;
  for (std::uint32_t i = 0; read(symbols->content, i * sizeof symbol, symbol); ++i)
    if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && name_at(names, symbol.st_name) == entry) wanted = i;
  if (wanted == 0) return Status(Code::internal, "the machine code has no entry " + std::string(entry));

  for (std::size_t at = 0; at + 4 <= info->content.size();) {
    const auto form = static_cast<std::uint8_t>(info->content[at]);
    const auto attribute = static_cast<std::uint8_t>(info->content[at + 1]);
    std::uint16_t size = 0;
    read(info->content, at + 2, size);
    at += 4;
    if (form != sized_form) continue;
    std::uint32_t function = 0, value = 0;
    if (size == 8 && read(info->content, at, function) && read(info->content, at + 4, value) && function == wanted) {
      if (attribute == frame_size) found.local_bytes = static_cast<int>(value);
      if (attribute == register_count) found.registers = static_cast<int>(value);
    }
    at += size;
  }
  if (found.registers == 0) return Status(Code::internal, "the machine code does not tell its registers");
  return found;
}

std::string_view code_of(std::string_view cubin, std::string_view entry) {
  for (const Section& s : sections_of(cubin))
    if (s.name.starts_with(".text.") && s.name.substr(6) == entry) return s.content;
  return {};
}

}  // namespace upconv::jit
