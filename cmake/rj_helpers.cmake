# SPDX-License-Identifier: BSD-2-Clause
#
# What the folders' CMakeLists.txt are written in.

# rj_sources(a.c sub/b.c ...): add these files of this folder to the library.
function(rj_sources)
	list(TRANSFORM ARGN PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
	set_property(GLOBAL APPEND PROPERTY RJ_SOURCES ${ARGN})
endfunction()

# rj_convenience_library(name a.c ... [LIBS lib...]): code shared by several programs of bench/ or
# tests/, never installed. An empty list is fine.
function(rj_convenience_library name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LIBS")
	if(arg_UNPARSED_ARGUMENTS)
		add_library(${name} STATIC ${arg_UNPARSED_ARGUMENTS})
		set(scope PUBLIC)
	else()
		add_library(${name} INTERFACE)
		set(scope INTERFACE)
	endif()
	target_link_libraries(${name} ${scope} rj_flags ${arg_LIBS} Threads::Threads)
	target_include_directories(${name} ${scope} ${PROJECT_SOURCE_DIR}/include)
endfunction()

# rj_bench_program(name a.c ... [INSIDES]): build/<preset>/bench/<name>, on the public shared
# library. INSIDES: on the static one, whose internal functions can be reached.
function(rj_bench_program name)
	cmake_parse_arguments(PARSE_ARGV 1 arg "INSIDES" "" "")
	if(arg_INSIDES)
		set(library ramjet_static)
	else()
		set(library ramjet)
	endif()
	add_executable(${name} ${arg_UNPARSED_ARGUMENTS})
	target_link_libraries(${name} PRIVATE rj_flags rj_bench_common rj_guest ${library})
	# bench/ lies beside lib/ in the build tree as bin/ does where installed: one path fits both.
	set_target_properties(${name} PROPERTIES
		RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bench
		BUILD_WITH_INSTALL_RPATH ON
		INSTALL_RPATH "\$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
	install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
endfunction()
