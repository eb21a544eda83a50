# Fails if the files with SIMD bodies were compiled with flags that select an instruction set, or if
# their objects define weak symbols of the standard library: the linker could keep such a copy for the
# whole program, which would then need that instruction set.
#
#   cmake -DCOMMANDS=compile_commands.json -DNM=nm -DOBJECTS=a.o;b.o -P check_objects.cmake

set(simd_files "(encode|tables|targets)\\.cpp")

file(READ "${COMMANDS}" commands)
string(JSON count LENGTH "${commands}")
math(EXPR last "${count} - 1")
set(seen 0)
foreach(i RANGE ${last})
  string(JSON file GET "${commands}" ${i} file)
  if(NOT file MATCHES "/src/kernels/${simd_files}$")
    continue()
  endif()
  math(EXPR seen "${seen} + 1")
  string(JSON command GET "${commands}" ${i} command)
  if(command MATCHES " (-m(arch|cpu|avx|sse|fma|bmi|f16c)[^ ]*)")
    message(SEND_ERROR "kernels: expected no instruction set flag, got ${CMAKE_MATCH_1} for ${file}")
  endif()
  if(NOT command MATCHES " -ffp-contract=off")
    message(SEND_ERROR "kernels: expected -ffp-contract=off, got none for ${file}")
  endif()
endforeach()
if(NOT seen EQUAL 3)
  message(SEND_ERROR "kernels: expected 3 SIMD files in ${COMMANDS}, got ${seen}")
endif()

set(seen 0)
foreach(object IN LISTS OBJECTS)
  if(NOT object MATCHES "/(encode|tables)\\.cpp\\.")
    continue()
  endif()
  math(EXPR seen "${seen} + 1")
  execute_process(COMMAND "${NM}" --demangle "${object}"
    OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  if(symbols MATCHES " [WVu] (std::[^\n]*)")
    message(SEND_ERROR "kernels: expected no weak std symbol, got ${CMAKE_MATCH_1} in ${object}")
  endif()
endforeach()
if(NOT seen EQUAL 2)
  message(SEND_ERROR "kernels: expected 2 SIMD objects, got ${seen}")
endif()
