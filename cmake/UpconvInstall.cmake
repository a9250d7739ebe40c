# What `cmake --install` puts down: the library, its headers, find_package and pkg-config files.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/upconv)

install(TARGETS upconv EXPORT upconvTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/upconv DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(EXPORT upconvTargets NAMESPACE upconv:: DESTINATION ${package_dir})

configure_package_config_file(cmake/upconvConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/upconvConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/upconvConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)  # before 1.0 a minor version may change the API
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/upconvConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/upconvConfigVersion.cmake
  DESTINATION ${package_dir})

# The .pc file finds the prefix from its own place, so that an installed tree may be moved.
file(RELATIVE_PATH upconv_pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
set(upconv_pc_cflags "")
if(BUILD_SHARED_LIBS)
  set(upconv_pc_cflags "-DUPCONV_SHARED")
endif()
configure_file(cmake/upconv.pc.in ${CMAKE_CURRENT_BINARY_DIR}/upconv.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/upconv.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/upconv)
