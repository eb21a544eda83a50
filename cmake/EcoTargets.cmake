# How a library, a program and a test of this project are declared.
#
#   eco_add_library(NAME [TORCH] SOURCES ... [PUBLIC targets...] [PRIVATE targets...])
#   eco_add_program(NAME [TORCH] SOURCES ... [LINK targets...])
#   eco_add_test(NAME [TORCH] SOURCES ... [LINK targets...] [LABELS ...])
#   eco_parallel_sources(SOURCES ...)
#
# A library with public headers (include/ecoformer/NAME) is installed; one without is internal.
# TORCH targets share one precompiled torch/torch.h. Flags belong to targets, never to the project.

add_library(ecoformer_options INTERFACE)
target_compile_features(ecoformer_options INTERFACE cxx_std_20)
# One -fPIC for every target: static libraries may go into shared ones, and the precompiled header,
# which is only valid under the flags it was built with, fits programs and libraries alike.
target_compile_options(ecoformer_options INTERFACE
  -fPIC -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wundef
  $<$<BOOL:${ECO_WERROR}>:-Werror>
  # Lets ccache see through the precompiled header.
  $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>)
if(ECO_SANITIZE)
  target_compile_options(ecoformer_options INTERFACE
    -fsanitize=${ECO_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
  target_link_options(ecoformer_options INTERFACE -fsanitize=${ECO_SANITIZE})
endif()

if(ECO_WITH_TORCH)
  file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/torch_pch.cpp"
    CONTENT "// Holds the precompiled torch/torch.h.\n")
  add_library(ecoformer_torch_pch OBJECT "${PROJECT_BINARY_DIR}/torch_pch.cpp")
  target_link_libraries(ecoformer_torch_pch PRIVATE ecoformer_options LibTorch::LibTorch)
  target_precompile_headers(ecoformer_torch_pch PRIVATE <torch/torch.h>)
endif()

# ecoformer::fmt: the fmt of the torch wheel's own headers, which come first and are newer than the system's
# library, compiled once. Header-only it would be compiled again, for seconds, in every file that formats.
if(ECO_WITH_TORCH)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/fmt.cpp" CONTENT "#include <fmt/format.h>\n")
    add_library(ecoformer_fmt STATIC "${PROJECT_BINARY_DIR}/fmt.cpp")
    # Every function is emitted, whether or not this file calls it.
    target_compile_definitions(ecoformer_fmt PRIVATE FMT_HEADER_ONLY)
    target_compile_options(ecoformer_fmt PRIVATE -O1 -fPIC -fno-inline -fkeep-inline-functions)
    target_compile_features(ecoformer_fmt PUBLIC cxx_std_20)
    target_link_libraries(ecoformer_fmt PUBLIC LibTorch::LibTorch)
  else()
    add_library(ecoformer_fmt INTERFACE)
    target_link_libraries(ecoformer_fmt INTERFACE fmt::fmt-header-only)
  endif()
  add_library(ecoformer::fmt ALIAS ecoformer_fmt)
  set_target_properties(ecoformer_fmt PROPERTIES EXPORT_NAME fmt)
  install(TARGETS ecoformer_fmt EXPORT ecoformerTargets)
endif()

function(eco_use_torch target)
  target_precompile_headers(${target} REUSE_FROM ecoformer_torch_pch)
endfunction()

# eco_parallel_sources(SOURCES...): those that call at::parallel_for, which runs on one thread unless it is
# compiled with OpenMP. The precompiled header is only valid under its own flags, so they do without.
function(eco_parallel_sources)
  if(TARGET LibTorch::gomp AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set_source_files_properties(${ARGN} PROPERTIES
      COMPILE_OPTIONS -fopenmp SKIP_PRECOMPILE_HEADERS ON)
  endif()
endfunction()

function(eco_add_library name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(ecoformer_${name} STATIC ${ARG_SOURCES})
  add_library(ecoformer::${name} ALIAS ecoformer_${name})
  set_target_properties(ecoformer_${name} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(ecoformer_${name} PUBLIC cxx_std_20)
  target_include_directories(ecoformer_${name}
    PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:include>"
    PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(ecoformer_${name}
    PUBLIC ${ARG_PUBLIC}
    PRIVATE $<BUILD_INTERFACE:ecoformer_options> ${ARG_PRIVATE})
  if(ARG_TORCH)
    target_link_libraries(ecoformer_${name} PUBLIC LibTorch::LibTorch)
    eco_use_torch(ecoformer_${name})
  endif()
  set_property(GLOBAL APPEND PROPERTY ECO_LIBRARIES ${name})
  if(EXISTS "${PROJECT_SOURCE_DIR}/include/ecoformer/${name}")
    set_property(GLOBAL APPEND PROPERTY ECO_INSTALLED_LIBRARIES ${name})
    install(TARGETS ecoformer_${name} EXPORT ecoformerTargets)
    install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/ecoformer/${name}" DESTINATION include/ecoformer)
  endif()
endfunction()

# The program lies at the top of the build folder, finds LibTorch there and where it is installed.
function(eco_add_program name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
  target_link_libraries(${name} PRIVATE ecoformer_options ${ARG_LINK})
  if(ARG_TORCH)
    target_link_libraries(${name} PRIVATE LibTorch::LibTorch)
    set_target_properties(${name} PROPERTIES INSTALL_RPATH "${LibTorch_PREFIX}/lib")
    eco_use_torch(${name})
  endif()
  install(TARGETS ${name})
endfunction()

function(eco_add_test name)
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;LINK;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ecoformer_options ${ARG_LINK} GTest::gmock GTest::gtest_main)
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/tests")
  target_compile_definitions(${name} PRIVATE
    ECO_FIXTURES="${PROJECT_SOURCE_DIR}/tests/fixtures")
  if(ARG_TORCH)
    target_link_libraries(${name} PRIVATE LibTorch::LibTorch)
    eco_use_torch(${name})
  endif()
  # ctest runs tests side by side; a thread team in each would only wait for the others. Tests of
  # threading ask for threads themselves.
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABELS}" ENVIRONMENT OMP_NUM_THREADS=1)
endfunction()
