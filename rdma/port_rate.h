/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_RDMA_PORT_RATE_H
#define RJI_RDMA_PORT_RATE_H

#include <ramjet/probe.h>

/* What a port carries, by arithmetic. */

/* "100 Gb/sec (4X EDR)" of sysfs, into width, speed and rate of p, whose link_layer is known. */
void rji_port_take_rate(const char *text, struct rj_probe_port *p);

/*
 * Millionths of the rate that go to headers and gaps when every packet is full, from what surrounds a payload of mtu_bytes:
 *
 *   RoCE v2      preamble and gap 20, Ethernet and FCS 18, IPv4 20 (IPv6 40), UDP 8, BTH 12, ICRC 4
 *   InfiniBand   LRH 8, BTH 12, ICRC 4, VCRC 2
 *   iWARP        mtu_bytes is the netdev's; of it IPv4 20, TCP with timestamps 32, MPA and DDP 20; around it 38
 *
 * 0 for an MTU of 0: not known.
 */
uint32_t rji_mtu_lost_ppm(const char *transport, uint32_t mtu_bytes);

/* The netdev MTU that lets RoCE use packets of mtu_bytes, rounded up to the hundred: 4200 for 4096. */
uint32_t rji_roce_netdev_mtu(uint32_t mtu_bytes);

/* The largest MTU of RoCE's (256, 512, … 4096) on such a netdev; 0: none. */
uint32_t rji_roce_mtu(uint32_t netdev_mtu_bytes);

/* After rate, MTUs and netdev are known: what of p follows from them. */
void rji_port_conclude(struct rj_probe_port *p);

#endif
