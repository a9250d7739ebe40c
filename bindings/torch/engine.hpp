// The CUDA engine's run-time compilation as operators: what doctor, cache and warmup of the Python package ask.
#pragma once

#include <string>
#include <vector>

#include "upconv/problem.hpp"

namespace upconv::binding {

/// Lines "name TAB value" of what was found; the last is "cuda engine TAB ok", or "cuda engine TAB why not".
std::string engine_report();

/// "list": one line a kernel on disk, "bytes TAB seconds of age TAB path TAB what it is". "folder": where. "clear":
/// removes them; the bytes that this freed.
std::string kernel_cache(const std::string& action);

/// Compiles what a call of an operator would compile at its first run of `pass` ("forward", ...). `problem` is that of
/// the forward call; `precision` the operators' number (arguments.hpp), or -1 to take the problem's own.
void prepare(const std::string& problem, const std::string& pass, const std::string& device, std::int64_t precision,
             const std::vector<double>& epilogue);

/// One pass as `upconv export` writes it: candidate, detail, header, type and fields of the launch, then file, entry
/// and preamble of each kernel, separated by "\x1e". `device` is "sm_90" or the like; `any_size`: for sizes that others
/// refuse (plan/launch_export.hpp).
std::string launch_text(const std::string& problem, const std::string& pass, const std::string& device,
                        const std::vector<double>& epilogue, bool any_size);

/// launch_text() of a chain's convolution with its epilogue; `sizes` of the operands, five numbers each.
std::string chain_launch_text(const std::string& problem, const std::string& device, const std::vector<double>& numbers,
                              const std::vector<std::int64_t>& sizes, bool any_size);

/// A chain's passes as an exported file runs them (plan/program_text.hpp), separated by \x1e: the statements, then
/// file, entry and preamble of each kernel. `purpose`: 0 results, 1 training, 2 gradient.
std::string chain_program_text(const std::string& problem, const std::vector<double>& numbers,
                               const std::vector<std::int64_t>& sizes, std::int64_t wanted, std::int64_t purpose,
                               bool layer);

/// A file of kernels/ by its path there.
std::string kernel_source(const std::string& name);

/// The problem line of what an operator computes in `pass` of a call whose forward problem and precision are given;
/// what the functions below take.
std::string pass_problem(const std::string& problem, const std::string& pass, const std::string& device,
                         std::int64_t precision);

/// Plan::alternatives(), one line each: "name TAB detail".
std::string alternatives(const std::string& problem, const std::string& pass, const std::string& device,
                         const std::vector<double>& epilogue);

/// Compiles or loads one of them, without running it.
void prepare_alternative(const std::string& problem, const std::string& pass, const std::string& device,
                         const std::string& alternative, const std::vector<double>& epilogue);

/// From now on plans of this process, and later ones of others, take `alternative`; kept on disk (plan/tuned.hpp).
void remember(const std::string& problem, const std::string& pass, const std::string& device,
              const std::string& alternative, const std::vector<double>& epilogue);

/// Undoes every remember(); how many choices that were.
std::int64_t forget_tuned();

}  // namespace upconv::binding
