/* SPDX-License-Identifier: BSD-2-Clause */
#include "rdma/port_rate.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PPM 1000000u
/*
 * What the kernel sets aside on a netdev for RoCE, iboe_get_mtu() in <rdma/ib_addr.h>: GRH 40, UDP 8, BTH 12, XRC 4,
 * AtomicETH 28, ICRC 4.
 */
#define ROCE_RESERVE 96
#define ROCE_AROUND 82
#define IB_AROUND 26
#define IWARP_AROUND 38
#define IWARP_WITHIN 72

/*
 * Line code. An InfiniBand port's rate is told with it: 8 of 10 bits up to QDR, 64 of 66 at FDR; from EDR on the name is the
 * rate of the data. Ethernet's rates are of the data always.
 */
static uint64_t without_line_code(uint64_t bits_per_s, uint32_t mbit_per_s, bool infiniband)
{
	if (!infiniband || mbit_per_s > 14100)
		return bits_per_s;
	return mbit_per_s > 10000 ? bits_per_s / 66 * 64 : bits_per_s / 10 * 8;
}

void rji_port_take_rate(const char *text, struct rj_probe_port *p)
{
	double gbit = strtod(text, NULL);
	const char *width = strchr(text, '(');
	uint64_t bits;

	if (gbit <= 0 || gbit > 100000)
		return;
	bits = (uint64_t)(gbit * 1000 + 0.5) * 1000000u;
	p->width = width ? (uint32_t)strtoul(width + 1, NULL, 10) : 0;
	if (p->width)
		p->speed_mbit_per_s = (uint32_t)(bits / 1000000u / p->width);
	p->rate_bits_per_s =
		without_line_code(bits, p->speed_mbit_per_s, !strcmp(p->link_layer, "InfiniBand"));
}

static uint32_t lost(uint32_t payload, uint32_t around)
{
	return (uint32_t)((uint64_t)PPM * around / (payload + around));
}

uint32_t rji_mtu_lost_ppm(const char *transport, uint32_t mtu_bytes)
{
	if (!mtu_bytes)
		return 0;
	if (!strcmp(transport, "InfiniBand"))
		return lost(mtu_bytes, IB_AROUND);
	if (strcmp(transport, "iWARP"))
		return lost(mtu_bytes, ROCE_AROUND);
	if (mtu_bytes <= IWARP_WITHIN)
		return PPM;
	return lost(mtu_bytes - IWARP_WITHIN, IWARP_WITHIN + IWARP_AROUND);
}

uint32_t rji_roce_netdev_mtu(uint32_t mtu_bytes)
{
	return (mtu_bytes + ROCE_RESERVE + 99) / 100 * 100;
}

uint32_t rji_roce_mtu(uint32_t netdev_mtu_bytes)
{
	for (uint32_t mtu = 4096; mtu >= 256; mtu /= 2) {
		if (mtu + ROCE_RESERVE <= netdev_mtu_bytes)
			return mtu;
	}
	return 0;
}

void rji_port_conclude(struct rj_probe_port *p)
{
	bool roce = !strcmp(p->transport, "RoCE");

	if (!strcmp(p->transport, "iWARP"))
		p->active_mtu_bytes = p->netdev_mtu_bytes;
	if (roce && !p->active_mtu_bytes) /* verbs did not say */
		p->active_mtu_bytes = rji_roce_mtu(p->netdev_mtu_bytes);
	p->mtu_lost_ppm = rji_mtu_lost_ppm(p->transport, p->active_mtu_bytes);
	p->max_mtu_lost_ppm = rji_mtu_lost_ppm(p->transport, p->max_mtu_bytes);
	p->rate_bytes_per_s = p->rate_bits_per_s / 8 / PPM * (PPM - p->mtu_lost_ppm);
	if (roce && p->max_mtu_bytes > p->active_mtu_bytes)
		p->netdev_mtu_wanted_bytes = rji_roce_netdev_mtu(p->max_mtu_bytes);
}
