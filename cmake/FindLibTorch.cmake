# Finds the LibTorch that ships inside a Python's torch wheel and offers it as LibTorch::LibTorch.
#
# The Python asked is ECO_PYTHON if set, else the .venv of the project that asks, else the first on the
# PATH. Sets LibTorch_VERSION, LibTorch_PREFIX and LibTorch_PYTHON. Torch's own CMake package is not
# used: it adds flags for the whole project and wants the CUDA toolkit for a wheel built with CUDA.

set(LibTorch_PYTHON "${ECO_PYTHON}")
if(NOT LibTorch_PYTHON AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(LibTorch_PYTHON "${PROJECT_SOURCE_DIR}/.venv/bin/python")
endif()
if(NOT LibTorch_PYTHON)
  find_program(LibTorch_PYTHON NAMES python3 python NO_CACHE)
endif()

set(_reason "there is no Python")
if(LibTorch_PYTHON)
  execute_process(
    COMMAND "${LibTorch_PYTHON}" -c "
import os, torch
print(torch.__version__.split('+')[0], os.path.dirname(torch.__file__),
      int(torch.compiled_with_cxx11_abi()), sep=';')"
    OUTPUT_VARIABLE _answer OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_VARIABLE _error ERROR_STRIP_TRAILING_WHITESPACE
    RESULT_VARIABLE _status)
  if(_status EQUAL 0)
    list(GET _answer 0 LibTorch_VERSION)
    list(GET _answer 1 LibTorch_PREFIX)
    list(GET _answer 2 _cxx11_abi)
    if(NOT _cxx11_abi)
      unset(LibTorch_PREFIX)
      set(_reason "torch ${LibTorch_VERSION} of ${LibTorch_PYTHON} has the old C++ ABI; >= 2.7 has the new one")
    endif()
  else()
    string(REGEX REPLACE "^.*\n" "" _error "${_error}")
    set(_reason "${LibTorch_PYTHON} can not import torch (${_error})")
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_PREFIX
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE
    "${_reason}. Run `make setup`, or set ECO_PYTHON to a Python that has torch, or set ECO_WITH_TORCH=OFF for the kernels alone.")

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_include_directories(LibTorch::LibTorch SYSTEM INTERFACE
    "${LibTorch_PREFIX}/include" "${LibTorch_PREFIX}/include/torch/csrc/api/include")
  foreach(_library c10 torch_cpu torch)
    add_library(LibTorch::${_library} SHARED IMPORTED)
    set_target_properties(LibTorch::${_library} PROPERTIES
      IMPORTED_LOCATION "${LibTorch_PREFIX}/lib/lib${_library}.so")
    target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::${_library})
  endforeach()
  # The wheel's own OpenMP runtime, for at::parallel_for in our objects: a second one would fight it.
  file(GLOB _gomp "${LibTorch_PREFIX}/lib/libgomp*.so*" "${LibTorch_PREFIX}/../torch.libs/libgomp*.so*")
  if(_gomp)
    list(GET _gomp 0 _gomp)
    add_library(LibTorch::gomp SHARED IMPORTED)
    set_target_properties(LibTorch::gomp PROPERTIES IMPORTED_LOCATION "${_gomp}")
    target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::gomp)
  endif()
  # No symbol of it is used; it registers the CUDA operators when it is loaded.
  set(_cuda "${LibTorch_PREFIX}/lib/libtorch_cuda.so")
  if(EXISTS "${_cuda}")
    target_link_libraries(LibTorch::LibTorch INTERFACE
      "-Wl,--push-state,--no-as-needed,${_cuda},--pop-state")
  endif()
  # The wheel brings its own libraries, an OpenMP runtime among them. They find each other at run time;
  # the linker need not follow them, which spares us the paths of a dozen CUDA wheels.
  target_link_options(LibTorch::LibTorch INTERFACE "-Wl,--allow-shlib-undefined")
endif()
