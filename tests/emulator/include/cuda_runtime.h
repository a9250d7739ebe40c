// What a self-contained .cu text finds by this name when it is compiled for the CPU: ../cuda.hpp.
#pragma once
#include "../cuda.hpp"
