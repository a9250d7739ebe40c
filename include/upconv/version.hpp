// The library's version, as one string and three numbers. CMake and pyproject read it from here.
#pragma once

#define UPCONV_VERSION_MAJOR 0
#define UPCONV_VERSION_MINOR 1
#define UPCONV_VERSION_PATCH 0
#define UPCONV_VERSION "0.1.0"
