// See program_text.hpp.
#include "plan/program_text.hpp"

#include <algorithm>
#include <map>

#include "cuda/launching.hpp"
#include "launch/program.hpp"
#include "plan/cuda_closing.hpp"

namespace upconv {
namespace {

using cuda::ClosingPass;
using cuda::PullPass;
using Place = ClosingBuffer::Place;

class Writing {
 public:
  Writing(DType dtype, const CudaTarget& target) : dtype_(dtype), target_(target) {}

  /// Buffers in the order of their first use; what no pass uses is left out.
  void buffers(const std::vector<ClosingBuffer>& all, const std::vector<int>& saved) {
    all_ = all;
    for (std::size_t i = 0; i < saved.size(); ++i) saved_[saved[i]] = static_cast<int>(i);
    text_ += "p.saved_count = " + std::to_string(saved.size()) + ";\n";
  }

  Status add(const ClosingPass& pass) {
    auto made = cuda::ClosingKernel::make(pass, dtype_, target_);
    if (!made.ok() && pass.instead_of > 0) return {};
    if (!made.ok()) return made.status();
    const bool reads = cuda::reads_values(pass);
    begin(0, (*made)->kernel());
    fields("closing.", (*made)->fixed());
    if (reads) {
      buffer("source", pass.value.source);
      tables(pass.value);
      if (pass.value.argmax >= 0 && pass.value.window) {
        buffer("argmax", pass.value.argmax);
        number("argmax_bytes", cuda::argmax_bytes(*pass.value.window), 1);
      }
    } else {
      number("of", parts_.at(pass.parts), -1);
      if (pass.table >= 0) number("tables[0]", place(pass.table), -1);
    }
    buffer("out", pass.out), buffer("parts", pass.parts), buffer("table_out", pass.table_out);
    buffer("saved", pass.saved);
    if (pass.kind == ClosingPass::Kind::parts) parts_[pass.parts] = count_;
    number("instead_of", pass.instead_of, 0);
    if (pass.statistics) text_ += "  q.statistics = true;\n";
    if (pass.kind == ClosingPass::Kind::result && pass.reduce && pass.table < 0) text_ += "  q.spared = true;\n";
    number("weight", pass.weight, -1), number("bias", pass.bias, -1);
    end();
    return {};
  }

  Status add(const PullPass& pass) {
    const cuda::PullKernel* from = pass.from >= 0 ? pulls_.at(pass.from).get() : nullptr;
    auto made = cuda::PullKernel::make(pass, dtype_, target_, from);
    if (!made.ok()) return made.status();
    const bool total = pass.kind == PullPass::Kind::total, norm = pass.kind == PullPass::Kind::norm;
    begin(total ? 2 : 1, (*made)->kernel());
    buffer("out", pass.out);
    if (total) {
      if (pass.source == PullPass::Source::whole && !pass.nothing)
        buffer("source", pass.total_in);
      else if (!pass.nothing)
        number("of", pass.from, -1);
      if (pass.source == PullPass::Source::vector_sums) text_ += "  q.vectors = true;\n";
      if (pass.nothing) text_ += "  q.nothing = true;\n";
      number("slot", pass.slot, 0);
      if (pass.nothing) number("like", all_[static_cast<std::size_t>(pass.out)].number, -1);
      if (pass.gone) text_ += "  q.gone = " + std::to_string(pass.gone) + "u;\n";
    } else {
      fields("pull.", (*made)->fixed());
      buffer("source", pass.value.source);
      if (norm)
        buffer("tables[0]", pass.saved);
      else
        tables(pass.value);
      for (std::size_t i = 0; i < pass.coefficients.size(); ++i)
        buffer(("coefficients[" + std::to_string(i) + "]").c_str(), pass.coefficients[i]);
      buffer("gradient", pass.gradient), buffer("argmax", pass.argmax);
      buffer("reduced", pass.reduced), buffer("ties", pass.ties);
      buffer("sums", pass.sums), buffer("vector_sums", pass.vector_sums), buffer("table_out", pass.table_out);
      for (std::size_t i = 0; i < pass.wholes.size(); ++i)
        buffer(("whole[" + std::to_string(i) + "]").c_str(), pass.wholes[i]);
      number("weight", pass.weight, -1), number("bias", pass.bias, -1);
    }
    pulls_[count_] = std::move(made).value();
    end();
    return {};
  }

  Result<ExportedProgram> take() {
    if (count_ > launch::most_passes || static_cast<int>(places_.size()) > launch::most_buffers)
      return unsupported("a chain of " + std::to_string(count_) + " passes is longer than an exported file holds");
    program_.text = text_ + buffers_ + passes_;
    return std::move(program_);
  }

 private:
  void begin(int form, const jit::Kernel& kernel) {
    const jit::Program& k = kernel.program();
    const auto known = std::find_if(program_.kernels.begin(), program_.kernels.end(), [&](const ExportedKernel& e) {
      return e.file == k.file && e.preamble == k.preamble;
    });
    const auto index = known - program_.kernels.begin();
    if (known == program_.kernels.end()) program_.kernels.push_back({k.file, k.entry, k.preamble});
    std::swap(text_, passes_);
    text_ += "{\n  upconv::launch::ProgramPass& q = p.add();\n";
    number("form", form, 0);
    number("kernel", static_cast<int>(index), 0);
  }
  void end() {
    text_ += "}\n";
    std::swap(text_, passes_);
    ++count_;
  }
  void number(const char* name, std::int64_t value, std::int64_t usual) {
    if (value != usual) text_ += std::string("  q.") + name + " = " + std::to_string(value) + ";\n";
  }
  int place(int b) {
    const auto [at, fresh] = places_.try_emplace(b, static_cast<int>(places_.size()));
    if (fresh) {
      const ClosingBuffer& buffer = all_[static_cast<std::size_t>(b)];
      static const std::map<Place, const char*> names{{Place::workspace, "IN_WORKSPACE"},
                                                      {Place::z, "IN_Z"},
                                                      {Place::x, "IN_Z"},
                                                      {Place::y, "IN_Y"},
                                                      {Place::dy, "IN_DY"},
                                                      {Place::saved, "IN_SAVED"},
                                                      {Place::dz, "IN_DZ"},
                                                      {Place::db, "IN_DB"},
                                                      {Place::operand, "IN_GRADIENT"}};
      const int n = buffer.place == Place::saved ? saved_.at(b) : buffer.place == Place::operand ? buffer.number : 0;
      buffers_ += std::string("p.buffer(upconv::launch::") + names.at(buffer.place) + ", " + std::to_string(n) + ");\n";
    }
    return at->second;
  }
  void buffer(const char* name, int b) {
    if (b >= 0) number(name, place(b), -1);
  }
  void tables(const cuda::ClosingValue& value) {
    int i = 0;
    for (const cuda::ClosingItem& item : value.before)
      if (item.table >= 0) buffer(("tables[" + std::to_string(i++) + "]").c_str(), item.table);
  }
  template <class Fixed>
  void fields(const std::string& prefix, const Fixed& fixed) {
    const std::string all = cuda::launch_text({}, "", "", fixed).fields;
    for (std::size_t at = 0; at < all.size();) {
      const std::size_t end = all.find('\n', at);
      text_ += "  q." + prefix + all.substr(at + 2, end - at - 2) + "\n";
      at = end + 1;
    }
  }

  DType dtype_;
  const CudaTarget& target_;
  std::vector<ClosingBuffer> all_;
  std::map<int, int> saved_, places_, parts_;
  std::map<int, std::unique_ptr<cuda::PullKernel>> pulls_;
  ExportedProgram program_;
  std::string text_, passes_, buffers_;
  int count_ = 0;
};

}  // namespace

Result<ExportedProgram> export_program(const Problem& problem, const Chain& chain, const std::vector<Shape5>& sizes,
                                       unsigned wanted, ProgramPurpose purpose, bool layer) {
  const auto shapes = chain_shapes(problem, chain);
  if (!shapes.ok()) return shapes.status();
  const auto target = cuda_target_model(90);
  if (!target.ok()) return target.status();
  Writing w(problem.dtype, **target);
  if (purpose == ProgramPurpose::gradient) {
    const PullingProgram p = pulling_program(problem, chain, *shapes, sizes, wanted, layer && problem.bias, true);
    w.buffers(p.buffers, p.saved);
    for (const auto& pass : p.passes)
      if (Status s = std::visit([&](const auto& one) { return w.add(one); }, pass); !s.ok()) return s;
  } else {
    const bool training = purpose == ProgramPurpose::training || !layer;
    const ClosingProgram p = closing_program(problem, chain, *shapes, training, true);
    w.buffers(p.buffers, p.saved);
    for (const ClosingPass& pass : p.passes)
      if (Status s = w.add(pass); !s.ok()) return s;
  }
  return w.take();
}

}  // namespace upconv
