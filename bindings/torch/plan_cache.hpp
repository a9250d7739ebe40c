// Plans by problem and epilogue, so that a repeated call costs one hash look-up.
// Called by every operator; safe from many threads.
#pragma once

#include <memory>

#include "upconv/plan.hpp"

namespace upconv::binding {

/// The plan of a problem, built on first use. Throws std::runtime_error with the Status message.
std::shared_ptr<const Plan> plan_for(const Problem& problem, const Epilogue& epilogue, Device device);

/// Drops every plan; those in use live on. Later calls make theirs anew.
void forget_plans();

}  // namespace upconv::binding
