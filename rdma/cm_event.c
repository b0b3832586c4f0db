/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include "rdma/rdma_transport.h"

/* 4.096 us × 2^14 = 67 ms, and six retries: a dead peer is noticed in about half a second (IBTA vol. 1, 9.7.6.1.3). */
#define ACK_TIMEOUT 14
#define RETRIES 6 /* 7 is for ever on rdma_rxe */
#define RNR_FOR_EVER 7

struct rdma_event_channel *rji_rdma_cm_channel(void)
{
	struct rdma_event_channel *channel = rdma_create_event_channel();
	int flags, saved;

	if (!channel)
		return NULL;
	flags = fcntl(channel->fd, F_GETFL);
	if (flags >= 0 && fcntl(channel->fd, F_SETFL, flags | O_NONBLOCK) >= 0)
		return channel;
	saved = errno;
	rdma_destroy_event_channel(channel);
	errno = saved;
	return NULL;
}

/* Sleep until the channel has an event, or one of the reasons to give up. */
static int wait_readable(const struct rji_rdma_transport *tp, int channel_fd, uint64_t deadline_ns)
{
	struct pollfd fd[] = {
		{ .fd = channel_fd, .events = POLLIN },
		{ .fd = tp ? tp->withdrawn.fd : -1, .events = POLLIN },
		{ .fd = tp && tp->stop ? tp->stop->fd : -1, .events = POLLIN },
	};
	int n = poll(fd, 3, rji_ms_until(deadline_ns));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (fd[2].revents)
		return -ECANCELED;
	if (fd[1].revents)
		return -ESHUTDOWN;
	return n ? 0 : -ETIMEDOUT;
}

int rji_rdma_cm_next(const struct rji_rdma_transport *tp, struct rdma_event_channel *channel,
		     uint64_t deadline_ns, struct rdma_cm_event **ev_p)
{
	int ret;

	for (;;) {
		ret = wait_readable(tp, channel->fd, deadline_ns);
		if (ret)
			return ret;
		if (!rdma_get_cm_event(channel, ev_p))
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return errno ? -errno : -EIO;
	}
}

/* Before the connection exists: of these, only access flags and the RNR timer can be changed in RTS. */
void rji_rdma_cm_options(const struct rji_rdma_transport *tp, struct rdma_cm_id *id)
{
	uint8_t ack_timeout = ACK_TIMEOUT;
	uint8_t tos = (uint8_t)tp->traffic_class;

	/* Kernels before 5.3 do not know it, iWARP has no use for it. */
	rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &ack_timeout,
			sizeof(ack_timeout));
	if (tp->traffic_class >= 0)
		rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_TOS, &tos, sizeof(tos));
}

void rji_rdma_cm_param(struct rdma_conn_param *param, const void *private_data, uint8_t len_bytes)
{
	*param = (struct rdma_conn_param){
		.private_data = private_data,
		.private_data_len = len_bytes,
		/* We read nothing; but iWARP begins with a read of no bytes (RFC 6581, 4.2). */
		.responder_resources = 1,
		.initiator_depth = 1,
		.retry_count = RETRIES,
		.rnr_retry_count = RNR_FOR_EVER,
	};
}
