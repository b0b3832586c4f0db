# SPDX-License-Identifier: BSD-2-Clause
#
# One list of sources, two builds: ramjet (shared, and static under the same name), where only what
# libramjet.map lists is visible; and ramjet_testing, where tests reach every internal function.

get_property(sources GLOBAL PROPERTY RJ_SOURCES)

function(rj_library_flags target)
	target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:rj_flags> ${RJ_LIBS})
	target_include_directories(${target} PUBLIC
		$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
		$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
	set_target_properties(${target} PROPERTIES
		C_VISIBILITY_PRESET hidden
		POSITION_INDEPENDENT_CODE ON)
endfunction()

add_library(ramjet_objects OBJECT ${sources})
rj_library_flags(ramjet_objects)

set(map ${PROJECT_SOURCE_DIR}/libramjet.map)
add_library(ramjet SHARED $<TARGET_OBJECTS:ramjet_objects>)
rj_library_flags(ramjet)
target_link_options(ramjet PRIVATE LINKER:--version-script=${map})
if(NOT RJ_SANITIZE)	# clang leaves the sanitizers' symbols to the program
	target_link_options(ramjet PRIVATE LINKER:--no-undefined)
endif()
set_target_properties(ramjet PROPERTIES
	LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_LIBDIR}
	VERSION ${PROJECT_VERSION}
	SOVERSION ${PROJECT_VERSION_MAJOR}
	LINK_DEPENDS ${map}
	LINKER_LANGUAGE C)
add_library(ramjet::ramjet ALIAS ramjet)

add_library(ramjet_static STATIC $<TARGET_OBJECTS:ramjet_objects>)
rj_library_flags(ramjet_static)
set_target_properties(ramjet_static PROPERTIES OUTPUT_NAME ramjet LINKER_LANGUAGE C)
add_library(ramjet::ramjet_static ALIAS ramjet_static)

if(RJ_BUILD_TESTS)
	add_library(ramjet_testing STATIC ${sources})
	rj_library_flags(ramjet_testing)
	target_link_libraries(ramjet_testing PUBLIC rj_flags)
	target_compile_definitions(ramjet_testing PUBLIC RJ_TESTING=1)
endif()
