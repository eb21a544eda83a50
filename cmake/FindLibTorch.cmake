# Finds the LibTorch that ships inside a Python's torch wheel and offers it as LibTorch::LibTorch.
#
# The Python asked is ECO_PYTHON if set, else the project's own .venv, else the first on the PATH.
# Torch's own CMake package is not used: it adds flags for the whole project.

set(_hint ${ECO_PYTHON})
if(NOT _hint AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(_hint "${PROJECT_SOURCE_DIR}/.venv/bin/python")
endif()
if(NOT _hint)
  find_program(ECO_SYSTEM_PYTHON NAMES python3 python)
  set(_hint ${ECO_SYSTEM_PYTHON})
endif()

set(_probe "
import os, torch
root = os.path.dirname(torch.__file__)
print(torch.__version__.split('+')[0], root, int(torch.compiled_with_cxx11_abi()), sep=';')
")
if(_hint)
  execute_process(
    COMMAND ${_hint} -c "${_probe}"
    OUTPUT_VARIABLE _answer
    ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()

if(_answer)
  list(GET _answer 0 LibTorch_VERSION)
  list(GET _answer 1 LibTorch_ROOT)
  list(GET _answer 2 _new_abi)
  if(NOT _new_abi)
    message(FATAL_ERROR "LibTorch: expected a wheel with the C++11 ABI (torch >= 2.7), "
                        "got torch ${LibTorch_VERSION} with the old one")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  LibTorch
  REQUIRED_VARS LibTorch_ROOT
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE
    "no Python with torch (asked: '${_hint}'). Run `make setup`, or set ECO_PYTHON to a Python that has torch, or configure with -DECO_WITH_TORCH=OFF for the kernels alone.")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
    "${LibTorch_ROOT}/include" "${LibTorch_ROOT}/include/torch/csrc/api/include")
  foreach(_library c10 torch_cpu torch c10_cuda torch_cuda)
    set(_file "${LibTorch_ROOT}/lib/lib${_library}.so")
    if(EXISTS "${_file}")
      add_library(LibTorch::${_library} SHARED IMPORTED)
      set_target_properties(LibTorch::${_library} PROPERTIES IMPORTED_LOCATION "${_file}")
      target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::${_library})
    endif()
  endforeach()
  # The wheel brings its own libraries (an OpenMP runtime among them); the linker resolves them there.
  target_link_options(LibTorch::LibTorch INTERFACE "-Wl,-rpath-link,${LibTorch_ROOT}/lib")
endif()
