include(GoogleTest)

# Warnings and sanitizers for our own code; generated code does not link it.
add_library(passband_flags INTERFACE)
set_target_properties(passband_flags PROPERTIES EXPORT_NAME flags)
add_library(passband::flags ALIAS passband_flags)
set(warnings
  -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Werror
  -Wno-missing-field-initializers  # Designated initialisers leave defaults on purpose.
  # GCC 12 reports std::string::insert falsely.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
target_compile_options(passband_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>")
if(PASSBAND_SANITIZE)
  add_compile_options(-fsanitize=${PASSBAND_SANITIZE} -fno-omit-frame-pointer
                      -fno-sanitize-recover=all)
  # GCC 12 reports std::function's members falsely, in sanitized code only.
  target_compile_options(passband_flags INTERFACE
    $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-maybe-uninitialized>)
  add_link_options(-fsanitize=${PASSBAND_SANITIZE})
endif()
if(PASSBAND_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# The sources of this folder and of those below run seldom or once: compiled in less time.
macro(passband_cold_sources)
  add_compile_options($<$<AND:$<COMPILE_LANGUAGE:CXX>,$<NOT:$<CONFIG:Debug>>>:-O1>)
endmacro()

# passband_library(<name> SOURCES ... DEPS ... [PRIVATE_DEPS ...]): the target
# passband::<name>. Includes are written from the repository's root.
function(passband_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SOURCES)
    add_library(passband_${name} STATIC ${ARG_SOURCES})
    target_include_directories(passband_${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(passband_${name} PUBLIC ${ARG_DEPS}
                          PRIVATE ${ARG_PRIVATE_DEPS} passband_flags)
  else()
    add_library(passband_${name} INTERFACE)
    target_include_directories(passband_${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(passband_${name} INTERFACE ${ARG_DEPS})
  endif()
  set_target_properties(passband_${name} PROPERTIES EXPORT_NAME ${name})
  add_library(passband::${name} ALIAS passband_${name})
endfunction()

# passband_program(<name> SOURCES ... DEPS ...): build/<preset>/bin/<name>.
function(passband_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} passband_flags)
endfunction()

# passband_test(<stem>_test.cc [DEPS ...] [TIMEOUT s] [LABELS ...]): called in
# tests/<folder>/CMakeLists.txt. The program is <folder>_<stem>_test; each of its
# tests is one ctest entry, labelled with the folder.
function(passband_test source)
  cmake_parse_arguments(ARG "" "TIMEOUT" "DEPS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  get_filename_component(stem ${source} NAME_WE)
  set(name ${folder}_${stem})
  add_executable(${name} ${source})
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest_main
                        passband_flags)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  gtest_discover_tests(${name} NO_PRETTY_VALUES TEST_PREFIX "${folder}."
    DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${folder};${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()

# passband_bench(<stem> [DEPS ...]): bench/<stem>.cc, a Google Benchmark
# program or one with its own main(), as build/<preset>/bench/<stem>.
function(passband_bench stem)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_executable(${stem} ${PROJECT_SOURCE_DIR}/bench/${stem}.cc)
  set_target_properties(${stem} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench)
  target_link_libraries(${stem} PRIVATE ${ARG_DEPS} benchmark::benchmark passband_flags)
  target_include_directories(${stem} PRIVATE ${PROJECT_SOURCE_DIR})
endfunction()

if(PASSBAND_FUZZ)
  add_custom_target(fuzz_programs)
endif()
# passband_fuzz(<stem>_fuzz.cc [DEPS ...] [RUNS n]), called in tests/<folder>/: a
# libFuzzer program, and a ctest entry labelled "fuzz" that runs it for a fixed number
# of inputs. Built only with PASSBAND_FUZZ (Clang).
function(passband_fuzz source)
  cmake_parse_arguments(ARG "" "RUNS" "DEPS" ${ARGN})
  if(NOT PASSBAND_FUZZ)
    return()
  endif()
  if(NOT ARG_RUNS)
    set(ARG_RUNS 20000)
  endif()
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  get_filename_component(stem ${source} NAME_WE)
  set(name ${folder}_${stem})
  add_executable(${name} ${source})
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} passband_flags)
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzz_programs ${name})
  add_test(NAME fuzz.${name} COMMAND ${name} -runs=${ARG_RUNS} -seed=1 -max_len=4096)
  set_tests_properties(fuzz.${name} PROPERTIES LABELS fuzz TIMEOUT 300)
endfunction()
