// Runs one pass of a plan on torch's resources: its threads and CPU allocator, or its current CUDA stream and caching
// allocator. Called by every operator once its tensors are dense.
#pragma once

#include <cstddef>
#include <functional>

#include "upconv/chain.hpp"
#include "upconv/plan.hpp"

namespace upconv::binding {

/// Allocates the pass's workspace on `device` and calls `run` with what it may use. Throws what `run` reports.
void launch(const Plan& plan, Pass pass, Device device, const std::function<Status(const Launch&)>& run);

/// The same for what needs no workspace.
void launch(Device device, const std::function<Status(const Launch&)>& run);

/// The same for what needs `bytes` of workspace.
void launch(std::size_t bytes, Device device, const std::function<Status(const Launch&)>& run);

/// The same for a chain.
void launch(const ChainPlan& plan, Device device, const std::function<Status(const Launch&)>& run);

}  // namespace upconv::binding
