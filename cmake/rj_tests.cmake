# SPDX-License-Identifier: BSD-2-Clause
#
# What the CMakeLists.txt below tests/ are written in. A test is named after its place: bitmap in
# tests/unit/base is the target and the CTest test unit.base.bitmap.

# Criterion and the sanitizers report some failures with exit status 0; 77 means skipped.
set(RJ_TEST_FAILURES
	"ERROR: (Address|Leak)Sanitizer" "WARNING: ThreadSanitizer" "runtime error:"
	"are definitely lost" "Tested: 0 ")
set(RJ_TEST_ENVIRONMENT
	"ASAN_OPTIONS=abort_on_error=1:detect_leaks=1"
	"UBSAN_OPTIONS=print_stacktrace=1"
	"TSAN_OPTIONS=second_deadlock_stack=1"
	"RJ_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
	"RJ_BUILD_DIR=${PROJECT_BINARY_DIR}")

function(rj_test_name name name_p)
	cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR
		BASE_DIRECTORY ${PROJECT_SOURCE_DIR}/tests OUTPUT_VARIABLE folder)
	string(REPLACE "/" "." folder "${folder}")
	set(${name_p} ${folder}.${name} PARENT_SCOPE)
endfunction()

# rj_add_test(name label command...): a CTest test with the guards above, for any command.
function(rj_add_test name label)
	rj_test_name(${name} test)
	add_test(NAME ${test} COMMAND ${ARGN})
	set_tests_properties(${test} PROPERTIES
		LABELS ${label}
		ENVIRONMENT "${RJ_TEST_ENVIRONMENT}"
		FAIL_REGULAR_EXPRESSION "${RJ_TEST_FAILURES}"
		SKIP_RETURN_CODE 77)
endfunction()

# rj_unit_test(bitmap bitmap_test.c [more.c] [LIBS lib...] [TIMEOUT seconds])
# A Criterion program that sees the library's internals. Not under TSan: Criterion dies there.
function(rj_unit_test name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "LIBS")
	rj_test_name(${name} test)
	add_executable(${test} ${arg_UNPARSED_ARGUMENTS})
	target_link_libraries(${test} PRIVATE
		rj_test_support ${arg_LIBS} ramjet_testing PkgConfig::criterion)
	if(RJ_SANITIZE MATCHES "thread|fuzzer")
		set_target_properties(${test} PROPERTIES EXCLUDE_FROM_ALL ON)
		return()
	endif()
	rj_add_test(${name} unit ${test})
	if(arg_TIMEOUT)
		set_tests_properties(${test} PROPERTIES TIMEOUT ${arg_TIMEOUT})
	endif()
endfunction()

# rj_plain_test(name label a.c ... [ARGS argument...] [LIBS lib...] [TIMEOUT seconds])
# A program with a main() of its own: 0 passed, 77 skipped, else failed. label is a kind that
# tests/run knows: sim, api, stress, unit. One labelled api is built like a user's program, from
# the published headers and the shared library; all others see the library's internals.
# A long run (tests/run --long) has RJ_TEST_LONG=1 in the environment.
function(rj_plain_test name label)
	cmake_parse_arguments(PARSE_ARGV 2 arg "" "TIMEOUT" "ARGS;LIBS")
	rj_test_name(${name} test)
	add_executable(${test} ${arg_UNPARSED_ARGUMENTS})
	if(label STREQUAL "api")
		target_link_libraries(${test} PRIVATE rj_flags ${arg_LIBS} ramjet Threads::Threads)
	else()
		target_link_libraries(${test} PRIVATE
			rj_test_support ${arg_LIBS} ramjet_testing Threads::Threads)
	endif()
	if(RJ_SANITIZE MATCHES "fuzzer")
		set_target_properties(${test} PROPERTIES EXCLUDE_FROM_ALL ON)
		return()
	endif()
	rj_add_test(${name} ${label} ${test} ${arg_ARGS})
	if(arg_TIMEOUT)
		set_tests_properties(${test} PROPERTIES TIMEOUT ${arg_TIMEOUT})
	endif()
endfunction()

# rj_fuzz_target(name name_fuzz.c [more.c] [LIBS lib...])
# The sources define LLVMFuzzerTestOneInput(). In the preset fuzz this is libFuzzer, run for
# RJ_FUZZ_SECONDS; in all others the same code replays tests/fuzz/corpus/<name>/, file by file.
function(rj_fuzz_target name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LIBS")
	rj_test_name(${name} test)
	set(corpus ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
	add_executable(${test} ${arg_UNPARSED_ARGUMENTS})
	target_link_libraries(${test} PRIVATE rj_test_support ${arg_LIBS} ramjet_testing)
	if(RJ_SANITIZE MATCHES "fuzzer")
		target_link_options(${test} PRIVATE -fsanitize=fuzzer)
		rj_add_test(${name} fuzz ${PROJECT_SOURCE_DIR}/tests/fuzz/fuzz-one
			$<TARGET_FILE:${test}> ${corpus} ${CMAKE_CURRENT_BINARY_DIR}/${name})
	else()
		target_sources(${test} PRIVATE ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
		rj_add_test(${name} fuzz ${test} ${corpus})
	endif()
endfunction()
