# Finds Arrow C++ and Parquet inside a pyarrow wheel. Defines the target oumi::arrow.
# The wheel ships headers and versioned shared libraries (libarrow.so.NN00) but no CMake package.
set(_arrow_root "${OUMI_DEPS_DIR}/pyarrow")
find_path(ArrowWheel_INCLUDE_DIR arrow/api.h PATHS "${_arrow_root}/include" NO_DEFAULT_PATH)
file(GLOB ArrowWheel_ARROW_LIBRARY "${_arrow_root}/libarrow.so.*00")
file(GLOB ArrowWheel_PARQUET_LIBRARY "${_arrow_root}/libparquet.so.*00")

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(ArrowWheel
  REQUIRED_VARS ArrowWheel_INCLUDE_DIR ArrowWheel_ARROW_LIBRARY ArrowWheel_PARQUET_LIBRARY
  REASON_FAILURE_MESSAGE "run scripts/setup.sh")

if(ArrowWheel_FOUND AND NOT TARGET oumi::arrow)
  set(ArrowWheel_LIBRARY_DIR "${_arrow_root}")
  add_library(oumi::arrow INTERFACE IMPORTED)
  target_include_directories(oumi::arrow SYSTEM INTERFACE "${ArrowWheel_INCLUDE_DIR}")
  target_link_libraries(oumi::arrow INTERFACE "${ArrowWheel_ARROW_LIBRARY}" "${ArrowWheel_PARQUET_LIBRARY}")
endif()
