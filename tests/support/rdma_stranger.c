/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/support/rdma_stranger.h"

#include <rdma/rdma_cma.h>
#include <stdbool.h>
#include <string.h>

#include "rdma/rdma_transport.h"

static int next_event(struct rdma_event_channel *channel, void *answer, size_t *answer_bytes)
{
	struct rdma_cm_event *ev;
	int type;

	if (rdma_get_cm_event(channel, &ev))
		return -1;
	type = (int)ev->event;
	if (answer && *answer_bytes > ev->param.conn.private_data_len)
		*answer_bytes = ev->param.conn.private_data_len;
	if (answer && *answer_bytes)
		memcpy(answer, ev->param.conn.private_data, *answer_bytes);
	rdma_ack_cm_event(ev);
	return type;
}

static int knock(struct rdma_event_channel *channel, struct rdma_cm_id *id, const char *address,
		 struct rdma_conn_param *param, void *answer, size_t *answer_bytes)
{
	uint8_t timeout = 14;
	struct sockaddr_storage to;

	if (rji_rdma_parse_address(address, &to))
		return -1;
	rdma_set_option(id, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout, 1);
	if (rdma_resolve_addr(id, NULL, (struct sockaddr *)&to, 2000) ||
	    next_event(channel, NULL, NULL) != RDMA_CM_EVENT_ADDR_RESOLVED ||
	    rdma_resolve_route(id, 2000) ||
	    next_event(channel, NULL, NULL) != RDMA_CM_EVENT_ROUTE_RESOLVED)
		return -1;
	if (rdma_connect(id, param))
		return -1;
	return next_event(channel, answer, answer_bytes);
}

int rdma_stranger_knock(const char *address, const void *private_data, uint8_t len_bytes,
			void *answer, size_t *answer_bytes)
{
	struct rdma_event_channel *channel = rdma_create_event_channel();
	struct rdma_conn_param param;
	struct rdma_cm_id *id;
	int ret = -1;

	rji_rdma_cm_param(&param, private_data, len_bytes);
	param.qp_num = 4711; /* of a queue pair there is not */
	if (!channel)
		return -1;
	if (!rdma_create_id(channel, &id, NULL, RDMA_PS_TCP)) {
		ret = knock(channel, id, address, &param, answer, answer_bytes);
		rdma_destroy_id(id);
	}
	rdma_destroy_event_channel(channel);
	return ret;
}
