# SPDX-License-Identifier: BSD-2-Clause
#
# cmake --build build/release --target package: three Debian packages, one a component.
#   library  libramjet0     what programs that use ramjet need
#   devel    libramjet-dev  what others build against
#   tools    ramjet-tools   the bench programs and their manual pages
# Who distributes them says who answers for them: -DRJ_PACKAGE_CONTACT="Name <address>".

set(RJ_PACKAGE_CONTACT "The ramjet authors <authors@ramjet.invalid>" CACHE STRING
	"Maintainer named in the packages")

set(library_package libramjet${PROJECT_VERSION_MAJOR})
set(devel_package libramjet-dev)
set(tools_package ramjet-tools)
set(CPACK_COMPONENTS_ALL library devel)
if(RJ_BUILD_BENCH)
	list(APPEND CPACK_COMPONENTS_ALL tools)
endif()

# --- what Debian wants beside the files: licence and changelog, in each package ---

set(release 1)
set(version ${PROJECT_VERSION}-${release})
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC) # honours SOURCE_DATE_EPOCH
file(READ LICENSE licence)
string(REGEX REPLACE "^BSD 2-Clause License\n\n([^\n]*)\n\n" "" licence "${licence}")
set(copyright ${CMAKE_MATCH_1})
string(REGEX REPLACE "^Copyright \\(c\\) " "" copyright "${copyright}")
string(STRIP "${licence}" licence)
string(REGEX REPLACE "\n\n" "\n.\n" licence "${licence}")
string(REGEX REPLACE "\n" "\n " licence "${licence}")
configure_file(cmake/deb-copyright.in deb/copyright @ONLY)
file(WRITE ${PROJECT_BINARY_DIR}/deb/changelog.Debian "ramjet (${version}) unstable; urgency=medium

  * Built from the source tree of ramjet ${PROJECT_VERSION}, whose CHANGELOG.md tells what is new.

 -- ${RJ_PACKAGE_CONTACT}  ${date}
")

# Only in packages: who installs from the tree has the tree.
foreach(component IN LISTS CPACK_COMPONENTS_ALL)
	install(FILES ${PROJECT_BINARY_DIR}/deb/copyright ${PROJECT_BINARY_DIR}/deb/changelog.Debian
		DESTINATION share/doc/${${component}_package}
		COMPONENT ${component} EXCLUDE_FROM_ALL)
endforeach()
install(FILES docs/integration.md docs/protocol.md docs/threat-model.md
	DESTINATION share/doc/${devel_package} COMPONENT devel EXCLUDE_FROM_ALL)
if(RJ_BUILD_BENCH)
	install(FILES docs/tuning.md DESTINATION share/doc/${tools_package}
		COMPONENT tools EXCLUDE_FROM_ALL)
endif()

# --- CPack ---

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME ramjet)
set(CPACK_PACKAGE_CONTACT ${RJ_PACKAGE_CONTACT})
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
	OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/deb-finish.cmake)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${release})
set(CPACK_DEBIAN_PACKAGE_SOURCE ramjet)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")
# The tools need our own library: dpkg-shlibdeps finds it here, its package is named below.
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/${CMAKE_INSTALL_LIBDIR})

function(rj_describe component what)
	string(TOUPPER ${component} COMPONENT)
	set(CPACK_DEBIAN_${COMPONENT}_DESCRIPTION "live migration of virtual machines over RDMA (${what})
 ramjet moves the memory of a running virtual machine to another host, over
 RDMA verbs or TCP, while its guest keeps running, and hands the guest over."
		PARENT_SCOPE)
endfunction()

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME ${library_package})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_RECOMMENDS ibverbs-providers)
rj_describe(library "library")

# ramjet.pc and ramjet::ramjet_static name the libraries which ramjet is made of.
set(CPACK_DEBIAN_DEVEL_PACKAGE_NAME ${devel_package})
set(CPACK_DEBIAN_DEVEL_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVEL_PACKAGE_SHLIBDEPS OFF)
list(JOIN RJ_DEB_DEVEL ", " devel_depends)
set(CPACK_DEBIAN_DEVEL_PACKAGE_DEPENDS "${library_package} (= ${version}), ${devel_depends}")
rj_describe(devel "development files")

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME ${tools_package})
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "${library_package} (= ${version}), python3")
set(CPACK_DEBIAN_TOOLS_PACKAGE_SUGGESTS "perftest, iperf3, qemu-system-x86, gnuplot-nox") # ramjet-peers' peers, and ramjet-plot
rj_describe(tools "tools")

include(CPack)
