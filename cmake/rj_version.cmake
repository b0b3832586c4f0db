# SPDX-License-Identifier: BSD-2-Clause
#
# RJ_VERSION, read from include/ramjet/version.h, the only place with the numbers.

set(header ${CMAKE_CURRENT_SOURCE_DIR}/include/ramjet/version.h)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${header})
file(READ ${header} text)
set(numbers)
foreach(part MAJOR MINOR PATCH)
	if(NOT text MATCHES "#define RJ_VERSION_${part} ([0-9]+)")
		message(FATAL_ERROR "${header} has no RJ_VERSION_${part}")
	endif()
	list(APPEND numbers ${CMAKE_MATCH_1})
endforeach()
list(JOIN numbers "." RJ_VERSION)
