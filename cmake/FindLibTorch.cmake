# Finds LibTorch's headers and CPU libraries. Defines the target oumi::torch.
#
# The wheel's own TorchConfig.cmake insists on a CUDA toolkit; the CPU libraries need none of it, only that
# libcudart and libcupti can be loaded, which lie beside the wheel. Searched in this order: Torch_ROOT (variable or
# environment; the folder that holds include/ and lib/), the active Python's torch when it is at least 2.11, and
# build/deps, where scripts/setup.sh puts the pinned wheel.
set(_torch_candidates "")
if(Torch_ROOT)
  list(APPEND _torch_candidates "${Torch_ROOT}")
elseif(DEFINED ENV{Torch_ROOT})
  list(APPEND _torch_candidates "$ENV{Torch_ROOT}")
endif()
list(APPEND _torch_candidates "${OUMI_DEPS_DIR}/torch")

find_path(LibTorch_INCLUDE_DIR ATen/core/Tensor.h PATHS ${_torch_candidates} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu PATHS ${_torch_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 PATHS ${_torch_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)

if(LibTorch_INCLUDE_DIR)
  file(STRINGS "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h" _version_lines
       REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3" LibTorch_VERSION "${_version_lines}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/setup.sh, or set Torch_ROOT to a folder with LibTorch's include/ and lib/")

if(LibTorch_FOUND AND NOT TARGET oumi::torch)
  get_filename_component(LibTorch_LIBRARY_DIR "${LibTorch_CPU_LIBRARY}" DIRECTORY)
  add_library(oumi::torch INTERFACE IMPORTED)
  target_include_directories(oumi::torch SYSTEM INTERFACE
    "${LibTorch_INCLUDE_DIR}" "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include")
  # --no-as-needed: operators register themselves in static initialisers, so the libraries must stay linked.
  target_link_libraries(oumi::torch INTERFACE
    "-Wl,--push-state,--no-as-needed" "${LibTorch_CPU_LIBRARY}" "${LibTorch_C10_LIBRARY}" "-Wl,--pop-state")
endif()
