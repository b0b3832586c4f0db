# SPDX-License-Identifier: BSD-2-Clause
#
# Run by CPack on the installed trees, before they become packages: texts are compressed as Debian
# wants them, and programs no longer look for the library beside themselves.

file(GLOB texts
	${CPACK_TEMPORARY_DIRECTORY}/*/usr/share/man/man*/*.[0-9]
	${CPACK_TEMPORARY_DIRECTORY}/*/usr/share/doc/*/changelog.Debian)
if(texts)
	execute_process(COMMAND gzip -9nf ${texts} COMMAND_ERROR_IS_FATAL ANY)
endif()
file(GLOB programs ${CPACK_TEMPORARY_DIRECTORY}/*/usr/bin/*)
foreach(program IN LISTS programs)
	file(RPATH_REMOVE FILE ${program})
endforeach()
