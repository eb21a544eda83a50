# Fails if a library includes one that stands after it in ORDER, or if kernels or a public header include
# what they must not. ROOT is the source folder.

cmake_minimum_required(VERSION 3.25)

set(complaints "")
function(check_file file library allowed)
  file(STRINGS "${ROOT}/${file}" lines REGEX "^#include ")
  foreach(line IN LISTS lines)
    if(line MATCHES "\"(ecoformer/)?([a-z_]+)/[^\"]*\"" AND CMAKE_MATCH_2 IN_LIST ORDER
       AND NOT CMAKE_MATCH_2 IN_LIST allowed)
      list(APPEND complaints "${file}: ${library} must not use ${CMAKE_MATCH_2}: ${line}")
    elseif(library STREQUAL "kernels" AND line MATCHES "<(torch|ATen|c10|fmt)/")
      list(APPEND complaints "${file}: kernels must build without torch and fmt: ${line}")
    elseif(file MATCHES "^include/" AND line MATCHES "<iostream>")
      list(APPEND complaints "${file}: a public header must not include <iostream>")
    endif()
  endforeach()
  set(complaints "${complaints}" PARENT_SCOPE)
endfunction()

set(allowed "")
set(checked 0)
foreach(library IN LISTS ORDER)
  list(APPEND allowed ${library})
  file(GLOB_RECURSE files RELATIVE "${ROOT}"
    "${ROOT}/include/ecoformer/${library}/*.h" "${ROOT}/src/${library}/*.h"
    "${ROOT}/src/${library}/*.cpp")
  foreach(file IN LISTS files)
    check_file("${file}" ${library} "${allowed}")
    math(EXPR checked "${checked} + 1")
  endforeach()
endforeach()

if(complaints)
  list(JOIN complaints "\n" complaints)
  message(FATAL_ERROR "includes that point the wrong way:\n${complaints}")
endif()
if(checked EQUAL 0)
  message(FATAL_ERROR "expected sources below ${ROOT}, found none")
endif()
message(STATUS "${checked} files checked")
