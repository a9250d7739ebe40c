// Compiles the kernels of one problem for a model of a GPU and says what the compiler made of them; needs no GPU.
//   upconv_cuda_compile "2d n8 c64 o64 i1024 k3 tf32" forward [candidate[:tile]|-] [architecture] [folder for cubins
//   and sources]
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "cuda/candidates.hpp"
#include "jit/compiler.hpp"
#include "jit/cubin.hpp"

using namespace upconv;

namespace {

Result<jit::Image> compile(const jit::Program& program, const std::string& architecture) {
  const auto& compiler = jit::nvrtc();
  if (!compiler.ok()) return compiler.status();
  return jit::compile(program, *compiler.value(), {architecture});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3)
    return std::fprintf(stderr, "usage: %s PROBLEM PASS [CANDIDATE|-] [ARCHITECTURE] [FOLDER]\n", argv[0]), 2;
  const auto problem = parse_problem(argv[1]);
  if (!problem.ok()) return std::fprintf(stderr, "%s\n", problem.status().message().c_str()), 2;
  const std::string asked = argc > 3 && std::string(argv[3]) != "-" ? argv[3] : "";
  const std::size_t colon = asked.find(':');
  const std::string wanted = asked.substr(0, colon);
  const int variant = colon == std::string::npos ? 0 : std::atoi(asked.c_str() + colon + 1);
  const auto target = cuda_target_model(argc > 4 ? std::stoi(argv[4]) : 90);
  if (!target.ok()) return std::fprintf(stderr, "%s\n", target.status().message().c_str()), 2;
  const Geometry geometry = make_geometry(*problem);
  for (Pass pass : {Pass::forward, Pass::backward_input, Pass::backward_weight, Pass::backward_bias}) {
    if (to_string(pass) != argv[2]) continue;
    for (const cuda::Candidate& c : cuda::candidates(pass)) {
      if (!wanted.empty() && c.name != wanted) continue;
      const cuda::Request request{{*problem, geometry, pass, {}, !wanted.empty()}, **target, variant};
      const auto made = c.make(request);
      if (!made.ok()) {
        std::printf("%s declined: %s\n", std::string(c.name).c_str(), made.status().message().c_str());
        continue;
      }
      std::printf("%s: %s; predicted %.1f us\n", std::string(c.name).c_str(), (*made)->detail().c_str(),
                  (*made)->predicted_seconds() * 1e6);
      for (const jit::Kernel* k : (*made)->kernels()) {
        const auto begin = std::chrono::steady_clock::now();
        const auto image = compile(k->program(), (*target)->architecture());
        const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        if (!image.ok()) return std::fprintf(stderr, "%s\n", image.status().message().c_str()), 1;
        const auto r = jit::resources_of(image->code, k->program().entry);
        std::printf("  %s: %.2f s, %zu bytes, %d registers, %d bytes of local memory\n", k->program().entry.c_str(), s,
                    image->code.size(), r.ok() ? r->registers : -1, r.ok() ? r->local_bytes : -1);
        if (argc > 5)
          std::ofstream(std::string(argv[5]) + "/" + k->program().entry + ".cu") << jit::flat_source(k->program());
        if (argc > 5) std::ofstream(std::string(argv[5]) + "/" + k->program().entry + ".cubin") << image->code;
      }
      return 0;
    }
  }
  std::fprintf(stderr, "no candidate or pass of that name\n");
  return 1;
}
