# SPDX-License-Identifier: BSD-2-Clause
#
# The libraries that libramjet needs, by their pkg-config names. ramjet.pc and ramjetConfig.cmake
# are made from the same list.

set(RJ_PKGS libibverbs librdmacm numa hwloc libzstd libxxhash liburing)
# The same as Debian packages: rj_package.cmake.
set(RJ_DEB_DEVEL libibverbs-dev librdmacm-dev libnuma-dev libhwloc-dev libzstd-dev libxxhash-dev
	liburing-dev)

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

set(RJ_LIBS Threads::Threads)
foreach(pkg IN LISTS RJ_PKGS)
	pkg_check_modules(${pkg} REQUIRED IMPORTED_TARGET ${pkg})
	list(APPEND RJ_LIBS PkgConfig::${pkg})
endforeach()

# Not for the library.
if(RJ_BUILD_BENCH)
	pkg_check_modules(jansson REQUIRED IMPORTED_TARGET jansson)
	pkg_check_modules(libcrypto REQUIRED IMPORTED_TARGET libcrypto) # ramjet-scan
endif()
if(RJ_BUILD_TESTS)
	pkg_check_modules(criterion REQUIRED IMPORTED_TARGET criterion)
endif()
