/* SPDX-License-Identifier: BSD-2-Clause */
#include <string.h>

#include <criterion/criterion.h>

#include "rdma/port_rate.h"

static struct rj_probe_port port(const char *transport, const char *rate)
{
	struct rj_probe_port p = { .number = 1 };

	strcpy(p.transport, transport);
	strcpy(p.link_layer, strcmp(transport, "InfiniBand") ? "Ethernet" : "InfiniBand");
	rji_port_take_rate(rate, &p);
	return p;
}

Test(port_rate, width_times_speed)
{
	struct rj_probe_port p = port("RoCE", "100 Gb/sec (4X EDR)");

	cr_assert_eq(p.width, 4);
	cr_assert_eq(p.speed_mbit_per_s, 25000);
	cr_assert_eq(p.rate_bits_per_s, 100000000000ull);
	p = port("RoCE", "2.5 Gb/sec (1X SDR)");
	cr_assert_eq(p.width, 1);
	cr_assert_eq(p.speed_mbit_per_s, 2500);
	cr_assert_eq(p.rate_bits_per_s, 2500000000ull);
	p = port("InfiniBand", "400 Gb/sec (4X NDR)");
	cr_assert_eq(p.rate_bits_per_s, 400000000000ull);
}

Test(port_rate, old_infiniband_tells_its_line_code_too)
{
	cr_assert_eq(port("InfiniBand", "40 Gb/sec (4X QDR)").rate_bits_per_s, 32000000000ull);
	cr_assert_eq(port("InfiniBand", "56 Gb/sec (4X FDR)").rate_bits_per_s / 1000000, 54303);
	cr_assert_eq(port("RoCE", "40 Gb/sec (4X QDR)").rate_bits_per_s, 40000000000ull);
}

Test(port_rate, what_is_no_rate_is_not_known)
{
	cr_assert_eq(port("RoCE", "").rate_bits_per_s, 0);
	cr_assert_eq(port("RoCE", "fast").rate_bits_per_s, 0);
	cr_assert_eq(port("RoCE", "-1 Gb/sec (4X EDR)").rate_bits_per_s, 0);
	cr_assert_eq(port("RoCE", "10 Gb/sec").width, 0);
}

Test(port_rate, headers_take_their_share)
{
	/* 82 bytes around each packet: 98.0, 96.1, 92.6 % remain. */
	cr_assert_eq(rji_mtu_lost_ppm("RoCE", 4096), 19626);
	cr_assert_eq(rji_mtu_lost_ppm("RoCE", 2048), 38497);
	cr_assert_eq(rji_mtu_lost_ppm("RoCE", 1024), 74141);
	cr_assert_eq(rji_mtu_lost_ppm("InfiniBand", 4096), 6307);
	cr_assert_eq(rji_mtu_lost_ppm("iWARP", 1500), 71521);
	cr_assert_eq(rji_mtu_lost_ppm("iWARP", 60), 1000000);
	cr_assert_eq(rji_mtu_lost_ppm("RoCE", 0), 0);
}

Test(port_rate, netdev_mtu_for_roce)
{
	cr_assert_eq(rji_roce_netdev_mtu(4096), 4200);
	cr_assert_eq(rji_roce_netdev_mtu(2048), 2200);
	cr_assert_eq(rji_roce_mtu(4200), 4096);
	cr_assert_eq(rji_roce_mtu(4192), 4096);
	cr_assert_eq(rji_roce_mtu(4191), 2048);
	cr_assert_eq(rji_roce_mtu(1500), 1024);
	cr_assert_eq(rji_roce_mtu(9000), 4096);
	cr_assert_eq(rji_roce_mtu(300), 0);
}

Test(port_rate, conclusions)
{
	struct rj_probe_port p = port("RoCE", "100 Gb/sec (4X EDR)");

	p.active_mtu_bytes = 1024;
	p.max_mtu_bytes = 4096;
	rji_port_conclude(&p);
	cr_assert_eq(p.mtu_lost_ppm, 74141);
	cr_assert_eq(p.max_mtu_lost_ppm, 19626);
	cr_assert_eq(p.netdev_mtu_wanted_bytes, 4200);
	cr_assert_eq(p.rate_bytes_per_s / 1000000, 11573);
	p.active_mtu_bytes = 4096;
	p.netdev_mtu_wanted_bytes = 0;
	rji_port_conclude(&p);
	cr_assert_eq(p.netdev_mtu_wanted_bytes, 0);
	cr_assert_eq(p.rate_bytes_per_s / 1000000, 12254);
	/* Verbs said nothing: what follows from the netdev. */
	p.active_mtu_bytes = p.max_mtu_bytes = 0;
	p.netdev_mtu_bytes = 1500;
	rji_port_conclude(&p);
	cr_assert_eq(p.active_mtu_bytes, 1024);
	cr_assert_eq(p.netdev_mtu_wanted_bytes, 0);
}
