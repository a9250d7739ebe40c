// See image.hpp.
#include "jit/image.hpp"

#include <cstdio>

#include "jit/notice.hpp"

namespace upconv::jit {

Result<Built> build(const Program& program, const std::string& architecture, const Cache& cache) {
  const auto& compiler = nvrtc();
  if (!compiler.ok()) return compiler.status();
  const Nvrtc& n = **compiler;
  const auto aim = aim_for(architecture, n.architectures);
  if (!aim.ok()) return Status(aim.status().code(), n.path + ": " + aim.status().message());

  Built built;
  built.key = key_of(program, n, *aim);
  if (auto stored = cache.load(built.key)) {
    built.image = std::move(*stored);
    return built;
  }
  const Claim claim = cache.claim(built.key);
  if (auto stored = cache.load(built.key)) {  // by the process that had the claim before
    built.image = std::move(*stored);
    return built;
  }
  {
    const Notice notice("upconv: compiling " + program.file + " (" + program.entry + ") for " + aim->name +
                        (cache.folder().empty() ? ", once in this process" : ", once; kept in " + cache.folder()));
    auto image = compile(program, n, *aim);
    if (!image.ok()) return image.status();
    built.image = std::move(*image);
  }
  built.compiled = true;
  char took[32];
  std::snprintf(took, sizeof took, "%.2f s", built.image.seconds);
  cache.store(built.key, built.image,
              program.file + " " + program.entry + " " + aim->name + " nvrtc-" + std::to_string(n.major) + "." +
                  std::to_string(n.minor) + " " + took);
  return built;
}

}  // namespace upconv::jit
