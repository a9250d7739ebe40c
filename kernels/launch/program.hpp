// A chain's passes for any sizes, as exported files run them: from the shape of the layer's result to the memory that
// the passes share, and their launches one after the other. What a pass is, the library has decided
// (src/plan/program_text.cpp writes it down).
#pragma once

#include "launch/pull.hpp"

namespace upconv::launch {

enum Place {
  IN_WORKSPACE,
  IN_Z,  ///< The layer's result; of a chain without a layer, x.
  IN_Y,
  IN_SAVED,  ///< Kept from the forward pass to the gradient's, by number.
  IN_DY,
  IN_DZ,
  IN_DB,
  IN_GRADIENT,  ///< Of an operand, by number.
};

constexpr int most_passes = 64, most_buffers = 96, most_operands = 16;

struct ProgramPass {
  int form = 0;    ///< 0: a kernel of launch/closing.hpp, 1: of launch/pull.hpp, 2: a total.
  int kernel = 0;  ///< By its number in the file.
  ClosingFixed closing;
  PullFixed pull;
  // Buffers; -1: none.
  int source = -1, out = -1, parts = -1, table_out = -1, saved = -1, argmax = -1;
  int tables[4] = {-1, -1, -1, -1}, coefficients[4] = {-1, -1, -1, -1};
  int gradient = -1, reduced = -1, ties = -1, sums = -1, vector_sums = -1;
  int whole[arguments::most_wholes] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
  int of = -1;  ///< The pass whose parts or sums these are.
  int argmax_bytes = 1;
  bool statistics = false;                ///< Gives those of a batch norm.
  bool spared = false;                    ///< Not needed where the units of `of` are one share each.
  int instead_of = 0;                     ///< The passes behind it, which do the same where it cannot run.
  int weight = -1, bias = -1;             ///< Operands.
  bool vectors = false, nothing = false;  ///< total
  int slot = 0, like = -1;                ///< total: of sums; the operand whose sizes the result has.
  unsigned gone = 0;
};

struct ProgramBuffer {
  int place = IN_WORKSPACE, number = 0;
};

struct Program {
  ProgramPass passes[most_passes];
  ProgramBuffer buffers[most_buffers];
  int pass_count = 0, buffer_count = 0, saved_count = 0;

  ProgramPass& add() { return passes[pass_count++]; }
  void buffer(int place, int number) { buffers[buffer_count].place = place, buffers[buffer_count++].number = number; }
};

struct ProgramOperand {
  const void* data = nullptr;
  Int size[5] = {1, 1, 1, 1, 1};  ///< Dense.
};

/// What a program needs for sizes: every buffer's shape and bytes, and where it lies in the workspace.
struct ProgramPlan {
  const char* refusal = nullptr;
  Int shape[most_buffers][5];
  Int bytes[most_buffers];
  Int offset[most_buffers];
  Int workspace_bytes = 0;
  ClosingLaunch closing[most_passes];
  PullLaunch pull[most_passes];
  TotalLaunch total[most_passes];
  Int total_offset[most_passes];
  bool left_out[most_passes];  ///< Another pass does its work.
};

inline Int count_of(const Int (&shape)[5]) { return closing_product(shape, 0, 4); }
inline void set_shape(ProgramPlan& plan, int buffer, const Int (&shape)[5], Int bytes) {
  if (buffer < 0) return;
  for (int d = 0; d < 5; ++d) plan.shape[buffer][d] = shape[d];
  plan.bytes[buffer] = count_of(shape) * bytes;
}
inline void set_bytes(ProgramPlan& plan, int buffer, Int bytes) {
  const Int flat[5] = {1, 1, 1, 1, bytes};
  set_shape(plan, buffer, flat, 1);
}

/// Shapes as they are between the passes: a pass's own kernels are told what they read. `shared_bytes`: of a block,
/// where there are clusters (launch/closing.hpp).
inline void plan_program(const Program& program, const Int (&z)[5], const ProgramOperand* operands, int processors,
                         Int shared_bytes, ProgramPlan& plan) {
  for (int b = 0; b < program.buffer_count; ++b) {
    set_bytes(plan, b, 0);
    if (program.buffers[b].place == IN_Z) set_shape(plan, b, z, 4);
  }
  int done = 0;  // passes to come whose work one before them does
  for (int i = 0; i < program.pass_count && !plan.refusal; ++i) {
    const ProgramPass& p = program.passes[i];
    plan.left_out[i] = done > 0;
    if (done > 0) {
      --done;
      continue;
    }
    Int shape[5] = {1, 1, 1, 1, 1};
    if (p.source >= 0)
      for (int d = 0; d < 5; ++d) shape[d] = plan.shape[p.source][d];
    if (p.form == 0) {
      ClosingLaunch& l = plan.closing[i];
      if (p.of >= 0)  // what is put together: the values after their window
        for (int d = 0; d < 5; ++d) shape[d] = plan.closing[p.of].at[d];
      l = launch_of(p.closing, shape, processors, shared_bytes);
      if (p.instead_of > 0) {
        plan.left_out[i] = l.refusal != nullptr;
        if (l.refusal) continue;
        done = p.instead_of;
      }
      plan.refusal = l.refusal;
      if (p.closing.kind == 1) set_bytes(plan, p.parts, l.parts_bytes);
      set_shape(plan, p.out, l.result, 4);
      set_bytes(plan, p.table_out, closing_product(l.at, 0, static_cast<int>(p.closing.first) - 1) * 12);
      set_bytes(plan, p.saved, l.arguments.units * 8);
      set_shape(plan, p.argmax, l.at, p.argmax_bytes);
    } else if (p.form == 1) {
      PullLaunch& l = plan.pull[i];
      l = launch_of(p.pull, shape, processors);
      plan.refusal = l.refusal;
      set_shape(plan, p.out, l.at, 4);
      for (int w : p.whole) set_shape(plan, w, l.at, 4);
      if (p.pull.kind != 3) set_bytes(plan, p.sums, l.sum_bytes);
      set_bytes(plan, p.vector_sums, l.vector_bytes);
      set_bytes(plan, p.table_out, closing_product(shape, 0, static_cast<int>(p.pull.closing.first) - 1) * 12);
    } else {
      Int size[5], stride[5], left[5];
      plan.total_offset[i] = 0;
      if (p.nothing || p.source >= 0) {
        for (int d = 0; d < 5; ++d) size[d] = p.nothing ? operands[p.like].size[d] : shape[d];
        dense_total(size, stride);
      } else {
        plan.total_offset[i] = 4 * sums_of(program.passes[p.of].pull, plan.pull[p.of], p.slot, p.vectors, size, stride);
      }
      plan.total[i] = total_of(size, stride, p.gone);
      if (p.nothing) plan.total[i].arguments.count = 0;
      for (int d = 0; d < 5; ++d) left[d] = p.gone >> d & 1 ? 1 : size[d];
      set_shape(plan, p.out, left, 4);
    }
  }
  plan.workspace_bytes = 0;
  for (int b = 0; b < program.buffer_count; ++b) {
    plan.offset[b] = plan.workspace_bytes;
    if (program.buffers[b].place == IN_WORKSPACE) plan.workspace_bytes += ceil_div(plan.bytes[b], 256) * 256;
  }
}

/// Addresses of a run.
struct ProgramTensors {
  const void* z = nullptr;
  const void* dy = nullptr;
  void *y = nullptr, *dz = nullptr, *db = nullptr, *workspace = nullptr;
  void* const* saved = nullptr;
  void* const* gradients = nullptr;
  double* statistics = nullptr;
  const ProgramOperand* operands = nullptr;
  int operand_count = 0;
};

/// The operands as kernels take them; `values` where an epilogue's does.
inline arguments::Operands<most_operands> operand_block(const ProgramOperand* operands, int count,
                                                        const arguments::Values& values) {
  arguments::Operands<most_operands> block{};
  block.values = values;
  for (int i = 0; i < count; ++i) {
    long long stride[5], all = 1;
    for (int d = 4; d >= 0; --d) {
      stride[d] = operands[i].size[d] == 1 ? 0 : all;
      all *= operands[i].size[d];
    }
    block.at[i] = {operands[i].data, stride[0], stride[1], stride[2], stride[3], stride[4]};
  }
  return block;
}

inline void* program_address(const Program& program, const ProgramPlan& plan, const ProgramTensors& t, int buffer) {
  if (buffer < 0) return nullptr;
  const ProgramBuffer& b = program.buffers[buffer];
  switch (b.place) {
    case IN_Z:
      return const_cast<void*>(t.z);
    case IN_Y:
      return t.y;
    case IN_SAVED:
      return t.saved[b.number];
    case IN_DY:
      return const_cast<void*>(t.dy);
    case IN_DZ:
      return t.dz;
    case IN_DB:
      return t.db;
    case IN_GRADIENT:
      return t.gradients[b.number];
    default:
      return static_cast<char*>(t.workspace) + plan.offset[buffer];
  }
}

/// Puts all passes on a stream: start(kernel, shape, arguments), which says whether it goes on.
template <class Start>
void run_program(const Program& program, const ProgramPlan& plan, const ProgramTensors& t, Start& start) {
  arguments::Operands<most_operands> block = operand_block(t.operands, t.operand_count, {});
  const auto at = [&](int buffer) { return program_address(program, plan, t, buffer); };
  const auto vector = [&](int operand) -> const void* { return operand < 0 ? nullptr : t.operands[operand].data; };
  for (int i = 0; i < program.pass_count; ++i) {
    const ProgramPass& p = program.passes[i];
    if (plan.left_out[i]) continue;
    if (p.form == 2) {
      arguments::Total a = plan.total[i].arguments;
      if (plan.total[i].blocks == 0) continue;
      const int from = p.nothing       ? -1
                       : p.source >= 0 ? p.source
                       : p.vectors     ? program.passes[p.of].vector_sums
                                       : program.passes[p.of].sums;
      a.in = from < 0 ? nullptr : static_cast<char*>(at(from)) + plan.total_offset[i];
      a.out = at(p.out);
      void* list[] = {&a};
      if (!start(p.kernel, {static_cast<unsigned>(plan.total[i].blocks), closing_threads, 0}, list)) return;
      continue;
    }
    const bool pulls = p.form == 1;
    const Int blocks = pulls ? plan.pull[i].blocks : plan.closing[i].blocks;
    if (blocks == 0 || (p.spared && plan.closing[p.of].arguments.shares == 1)) continue;
    arguments::Pull pull = pulls ? plan.pull[i].arguments : arguments::Pull{};
    arguments::Closing closing = pulls ? pull.values : plan.closing[i].arguments;
    closing.source = at(p.source), closing.out = at(p.out);
    closing.parts = at(pulls && p.pull.kind == 3 ? p.sums : p.parts);
    for (int k = 0; k < 4; ++k) closing.tables[k] = at(p.tables[k]), pull.coefficients[k] = at(p.coefficients[k]);
    closing.table_out = at(p.table_out);
    closing.saved = at(pulls ? -1 : p.saved), closing.argmax = at(pulls ? -1 : p.argmax);
    closing.statistics = p.statistics ? t.statistics : nullptr;
    closing.weight = vector(p.weight), closing.bias = vector(p.bias);
    pull.values = closing;
    pull.gradient = at(p.gradient), pull.argmax = at(pulls ? p.argmax : -1);
    pull.reduced = at(p.reduced), pull.ties = at(p.ties);
    pull.sums = at(p.sums), pull.vector_sums = at(p.vector_sums);
    for (int k = 0; k < arguments::most_wholes; ++k) pull.whole[k] = at(p.whole[k]);
    void* first = pulls && p.pull.kind != 3 ? static_cast<void*>(&pull) : static_cast<void*>(&closing);
    void* list[] = {first, &block};
    const Shape shape{static_cast<unsigned>(blocks),
                      static_cast<unsigned>(pulls ? closing_threads : plan.closing[i].threads),
                      static_cast<unsigned>(pulls ? 0 : plan.closing[i].shared_bytes)};
    if (!start(p.kernel, shape, list)) return;
  }
}

}  // namespace upconv::launch
