/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_NUMA_PCI_LINK_H
#define RJI_NUMA_PCI_LINK_H

#include <stddef.h>
#include <stdint.h>

/* What the link of a PCI device carries. */
struct rji_pci_link {
	int32_t node;	    /* -1: none, or not known */
	uint32_t width;	    /* lanes in use; 0: not known */
	uint32_t mt_per_s;  /* mega-transfers a second of each */
	uint32_t max_width; /* what the device could */
	uint32_t max_mt_per_s;
};

/* Of "0000:3b:00.0", from sysfs below root. A virtual function has no link of its own: its card's is told. */
void rji_pci_link(const char *root, const char *address, struct rji_pci_link *link_p);

/* The CPUs of a node as a list, "0-15"; "" if there is no such node. */
void rji_node_cpus(const char *root, int32_t node, char *buf, size_t buf_bytes);

/*
 * Bits a second of payload on a link: less the line code (8 of 10 bits up to 5 GT/s, 128 of 130 above) and a share of 12 % for
 * packet headers, acknowledgements and flow control with the usual payload of 256 bytes. An estimate: 16 lanes of
 * generation 3 come to 111 Gb/s, of 4 to 222. 0: not known.
 */
uint64_t rji_pcie_bits_per_s(uint32_t width, uint32_t mt_per_s);

#endif
