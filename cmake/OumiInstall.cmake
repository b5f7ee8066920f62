# cmake --install: the binary, the libraries, the headers, and a package that find_package(oumi) loads. The same package file
# lies in the build folder, for -Doumi_DIR=BUILD_FOLDER.
include(CMakePackageConfigHelpers)

install(TARGETS oumi-cpp RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS oumi oumi_core oumi_cli LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY oumi/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/oumi FILES_MATCHING PATTERN "*.h")
install(FILES cmake/pch.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/oumi/cmake)

write_basic_package_version_file("${CMAKE_BINARY_DIR}/oumiConfigVersion.cmake" COMPATIBILITY ExactVersion)

set(OUMI_PACKAGE_INCLUDE_DIR "${CMAKE_SOURCE_DIR}")
set(OUMI_PACKAGE_LIBRARY_DIR "${CMAKE_BINARY_DIR}")
set(OUMI_PACKAGE_PCH "${CMAKE_SOURCE_DIR}/cmake/pch.h")
configure_file(cmake/oumiConfig.cmake.in "${CMAKE_BINARY_DIR}/oumiConfig.cmake" @ONLY)

set(OUMI_PACKAGE_INCLUDE_DIR "\${CMAKE_CURRENT_LIST_DIR}/../../../${CMAKE_INSTALL_INCLUDEDIR}")
set(OUMI_PACKAGE_LIBRARY_DIR "\${CMAKE_CURRENT_LIST_DIR}/../..")
set(OUMI_PACKAGE_PCH "\${CMAKE_CURRENT_LIST_DIR}/../../../${CMAKE_INSTALL_INCLUDEDIR}/oumi/cmake/pch.h")
configure_file(cmake/oumiConfig.cmake.in "${CMAKE_BINARY_DIR}/install/oumiConfig.cmake" @ONLY)
install(FILES "${CMAKE_BINARY_DIR}/install/oumiConfig.cmake" "${CMAKE_BINARY_DIR}/oumiConfigVersion.cmake"
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/oumi)
