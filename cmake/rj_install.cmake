# SPDX-License-Identifier: BSD-2-Clause
#
# What others build against: headers, libraries, find_package(ramjet), pkg-config. The components are
# the Debian packages of rj_package.cmake.

include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/ramjet)

# Two export sets: only who links the static library has to have what it is made of.
install(TARGETS ramjet EXPORT ramjetTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
	COMPONENT library NAMELINK_COMPONENT devel)
install(TARGETS ramjet_static EXPORT ramjetStaticTargets
	ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT devel)
install(DIRECTORY include/ramjet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT devel
	FILES_MATCHING PATTERN "*.h")

foreach(set ramjetTargets ramjetStaticTargets)
	install(EXPORT ${set} NAMESPACE ramjet:: DESTINATION ${package}
		COMPONENT devel)
endforeach()
configure_package_config_file(
	cmake/ramjetConfig.cmake.in ramjetConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(ramjetConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
	${PROJECT_BINARY_DIR}/ramjetConfig.cmake
	${PROJECT_BINARY_DIR}/ramjetConfigVersion.cmake
	DESTINATION ${package} COMPONENT devel)

# The prefix is told from where the file lies, so that an installed tree can be moved.
cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX
	BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig OUTPUT_VARIABLE RJ_PC_PREFIX)
list(JOIN RJ_PKGS " " RJ_PC_REQUIRES)
configure_file(cmake/ramjet.pc.in ramjet.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/ramjet.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
	COMPONENT devel)
