# SPDX-License-Identifier: BSD-2-Clause
#
# The options, and rj_flags: how every file of this project is compiled.

option(RJ_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(RJ_BUILD_BENCH "Build the bench programs" ${PROJECT_IS_TOP_LEVEL})
option(RJ_COVERAGE "Instrument for gcov" OFF)
set(RJ_SANITIZE "" CACHE STRING "Sanitizers, as in -fsanitize=: address,undefined or thread")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
	set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Debug, Release, RelWithDebInfo" FORCE)
endif()

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_STANDARD_REQUIRED ON)
# Programs find the library beside them, wherever the tree is mounted.
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)

add_library(rj_flags INTERFACE)
target_compile_definitions(rj_flags INTERFACE _GNU_SOURCE)
# Not -I: that would let our rdma/ shadow librdmacm's <rdma/...>.
target_compile_options(rj_flags INTERFACE
	"$<$<COMPILE_LANGUAGE:C,ASM>:SHELL:-iquote ${PROJECT_SOURCE_DIR}>")
target_compile_options(rj_flags INTERFACE
	"$<$<COMPILE_LANGUAGE:C>:-Wall;-Wextra;-Wshadow;-Wundef;-Wvla;-Wformat=2;-Wstrict-prototypes>"
	"$<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes;-Wimplicit-fallthrough>"
	# Functions of an ops table rarely need every parameter.
	"$<$<COMPILE_LANGUAGE:C>:-Wno-unused-parameter>")

if(RJ_SANITIZE)
	target_compile_options(rj_flags INTERFACE
		"$<$<COMPILE_LANGUAGE:C>:-fsanitize=${RJ_SANITIZE};-fno-omit-frame-pointer>"
		"$<$<COMPILE_LANGUAGE:C>:-fno-sanitize-recover=all>")
	target_link_options(rj_flags INTERFACE -fsanitize=${RJ_SANITIZE})
endif()
if(RJ_COVERAGE)
	target_compile_options(rj_flags INTERFACE "$<$<COMPILE_LANGUAGE:C>:--coverage>")
	target_link_options(rj_flags INTERFACE --coverage)
endif()
