/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/support/verbs_shim/shim_internal.h"

/* Completion queues, queue pairs, and what a device does with them. */

#define MAX_PLACEMENTS 64

struct shim_qp *shim_qps;
static uint32_t next_qp_num;

int shim_poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc);
int shim_req_notify_cq(struct ibv_cq *cq, int solicited_only);
int shim_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int shim_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
void shim_pd_use(struct ibv_pd *pd, int change);

/* An eventfd counts the events of a channel, so that poll(2) and O_NONBLOCK work as they do on the real thing. */
void shim_event_fd(int fd, int change)
{
	uint64_t one = 1;
	ssize_t n = change > 0 ? write(fd, &one, sizeof(one)) : read(fd, &one, sizeof(one));

	if (n != sizeof(one))
		shim_broken("event fd %d", fd);
}

/* --- completion queues --- */

struct ibv_comp_channel *ibv_create_comp_channel(struct ibv_context *context)
{
	struct shim_channel *c = NULL;

	pthread_mutex_lock(&shim_lock);
	if (shim_fault(SHIM_CREATE_CHANNEL)) {
		errno = EMFILE;
	} else {
		c = calloc(1, sizeof(*c));
		c->base.context = context;
		c->base.fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
		shim_object("completion channels", 1);
	}
	pthread_mutex_unlock(&shim_lock);
	return c ? &c->base : NULL;
}

int ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	struct shim_channel *c = (struct shim_channel *)channel;

	if (c->n_cqs)
		shim_broken("a completion channel is destroyed under %u queues", c->n_cqs);
	pthread_mutex_lock(&shim_lock);
	shim_object("completion channels", -1);
	pthread_mutex_unlock(&shim_lock);
	close(channel->fd);
	free(c);
	return 0;
}

static void *array(size_t n, size_t size)
{
	return calloc(n, size);
}

struct ibv_cq *ibv_create_cq(struct ibv_context *context, int cqe, void *cq_context,
			     struct ibv_comp_channel *channel, int comp_vector)
{
	struct shim_cq *cq = NULL;

	if (comp_vector < 0 || comp_vector >= context->num_comp_vectors)
		shim_broken("completion vector %d of %d", comp_vector, context->num_comp_vectors);
	pthread_mutex_lock(&shim_lock);
	if (shim_fault(SHIM_CREATE_CQ)) {
		errno = ENOMEM;
	} else {
		cq = calloc(1, sizeof(*cq));
		cq->base.context = context;
		cq->base.channel = channel;
		cq->base.cq_context = cq_context;
		cq->base.cqe = cqe;
		cq->wc = array((size_t)cqe, sizeof(*cq->wc));
		cq->sq_end = array((size_t)cqe, sizeof(*cq->sq_end));
		cq->qp = array((size_t)cqe, sizeof(struct shim_qp *));
		((struct shim_channel *)channel)->n_cqs++;
		shim_object("completion queues", 1);
	}
	pthread_mutex_unlock(&shim_lock);
	return cq ? &cq->base : NULL;
}

static void unqueue_events(struct shim_cq *cq)
{
	struct shim_channel *c = (struct shim_channel *)cq->base.channel;
	struct shim_cq **at = &c->first;

	if (!cq->events)
		return;
	while (*at != cq)
		at = &(*at)->next;
	*at = cq->next;
	for (; cq->events; cq->events--)
		shim_event_fd(c->base.fd, -1);
}

int ibv_destroy_cq(struct ibv_cq *base)
{
	struct shim_cq *cq = (struct shim_cq *)base;

	pthread_mutex_lock(&shim_lock);
	if (cq->unacked)
		shim_broken("a completion queue is destroyed with %u events unacknowledged",
			    cq->unacked);
	if (cq->n_qps)
		shim_broken("a completion queue is destroyed under %u queue pairs", cq->n_qps);
	unqueue_events(cq);
	((struct shim_channel *)base->channel)->n_cqs--;
	shim_object("completion queues", -1);
	pthread_mutex_unlock(&shim_lock);
	free(cq->wc);
	free(cq->sq_end);
	free(cq->qp);
	free(cq);
	return 0;
}

static void notify(struct shim_cq *cq)
{
	struct shim_channel *c = (struct shim_channel *)cq->base.channel;

	cq->armed = false;
	if (!cq->events++) {
		cq->next = c->first;
		c->first = cq;
	}
	shim_event_fd(c->base.fd, 1);
}

void shim_complete(struct shim_cq *cq, struct shim_qp *qp, const struct ibv_wc *wc, uint32_t sq_end)
{
	uint32_t at = (cq->head + cq->n) % (uint32_t)cq->base.cqe;

	if (cq->n == (uint32_t)cq->base.cqe)
		shim_broken("a completion queue of %d overruns", cq->base.cqe);
	cq->wc[at] = *wc;
	cq->sq_end[at] = sq_end;
	cq->qp[at] = qp;
	cq->n++;
	if (cq->armed)
		notify(cq);
}

int shim_req_notify_cq(struct ibv_cq *base, int solicited_only)
{
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	/* What completes between the last poll and this gives no event. */
	for (uint64_t n = shim_config.reorder ? shim_random() % 64 : 0; n; n--)
		shim_step();
	if (shim_fault(SHIM_REQ_NOTIFY))
		ret = EIO;
	else
		((struct shim_cq *)base)->armed = true;
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

int ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq_p, void **cq_context)
{
	struct shim_channel *c = (struct shim_channel *)channel;
	uint64_t one;

	if (read(channel->fd, &one, sizeof(one)) != sizeof(one))
		return -1;
	pthread_mutex_lock(&shim_lock);
	struct shim_cq *cq = c->first;

	if (!cq)
		shim_broken("an event without a completion queue");
	cq->unacked++;
	if (!--cq->events)
		c->first = cq->next;
	*cq_p = &cq->base;
	*cq_context = cq->base.cq_context;
	pthread_mutex_unlock(&shim_lock);
	return 0;
}

void ibv_ack_cq_events(struct ibv_cq *base, unsigned int n)
{
	struct shim_cq *cq = (struct shim_cq *)base;

	pthread_mutex_lock(&shim_lock);
	if (n > cq->unacked)
		shim_broken("%u events acknowledged of %u", n, cq->unacked);
	cq->unacked -= n;
	pthread_mutex_unlock(&shim_lock);
}

/* Only now are slots free again: the device's tail is moved by whoever polls. */
static void take_one(struct shim_cq *cq, struct ibv_wc *wc)
{
	struct shim_qp *qp = cq->qp[cq->head];
	uint32_t end = cq->sq_end[cq->head];

	*wc = cq->wc[cq->head];
	cq->head = (cq->head + 1) % (uint32_t)cq->base.cqe;
	cq->n--;
	if (qp && end)
		qp->freed = end;
}

int shim_poll_cq(struct ibv_cq *base, int n, struct ibv_wc *wc)
{
	struct shim_cq *cq = (struct shim_cq *)base;
	int got = 0;

	pthread_mutex_lock(&shim_lock);
	if (cq->n && shim_fault(SHIM_POLL_CQ))
		got = -1;
	while (got >= 0 && got < n && cq->n)
		take_one(cq, &wc[got++]);
	pthread_mutex_unlock(&shim_lock);
	return got;
}

/* --- queue pairs --- */

struct shim_qp *shim_qp_new(struct ibv_pd *pd, struct ibv_qp_init_attr *attr)
{
	struct shim_cq *cq = (struct shim_cq *)attr->send_cq;
	struct shim_qp *qp;

	if (attr->send_cq != attr->recv_cq || attr->qp_type != IBV_QPT_RC)
		shim_broken("a queue pair of a kind the shim does not play");
	cq->n_claimed += attr->cap.max_send_wr + attr->cap.max_recv_wr;
	if (cq->n_claimed > (uint32_t)cq->base.cqe)
		shim_broken("%u entries may come to a completion queue of %d", cq->n_claimed,
			    cq->base.cqe);
	qp = calloc(1, sizeof(*qp));
	qp->base = (struct ibv_qp){
		.context = pd->context,
		.pd = pd,
		.send_cq = attr->send_cq,
		.recv_cq = attr->recv_cq,
		.qp_num = ++next_qp_num,
		.state = IBV_QPS_INIT,
		.qp_context = attr->qp_context,
		.qp_type = IBV_QPT_RC,
	};
	qp->sq_depth = attr->cap.max_send_wr;
	qp->rq_depth = attr->cap.max_recv_wr;
	qp->sq_tail = &qp->sq;
	qp->rq_tail = &qp->rq;
	/* What rdma_cm gives to a queue pair. */
	qp->access = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	cq->n_qps++;
	shim_pd_use(pd, 1);
	qp->next = shim_qps;
	shim_qps = qp;
	shim_object("queue pairs", 1);
	return qp;
}

static struct shim_mr *find_mr(const struct ibv_pd *pd, uint32_t key, bool remote)
{
	for (struct shim_mr *mr = shim_mrs; mr; mr = mr->next)
		if ((remote ? mr->base.rkey : mr->base.lkey) == key && key && mr->base.pd == pd)
			return mr;
	return NULL;
}

/* Memory behind a key; NULL if the whole range is not in it. */
static void *reach(const struct ibv_pd *pd, uint32_t key, uint64_t addr, uint32_t len, bool remote,
		   unsigned int access)
{
	struct shim_mr *mr = find_mr(pd, key, remote);

	if (!mr || addr < mr->iova || len > mr->base.length ||
	    addr - mr->iova > mr->base.length - len || (mr->access & access) != access)
		return NULL;
	return (uint8_t *)mr->base.addr + (addr - mr->iova);
}

static void place(struct shim_qp *qp, struct shim_placement **at)
{
	struct shim_placement *p = *at;

	memcpy(p->to, p->bytes, p->len);
	*at = p->next;
	qp->n_placements--;
	free(p);
}

/* The newest is at the list's head; without reorder the oldest goes first. */
static void place_one(struct shim_qp *qp)
{
	struct shim_placement **at = &qp->placements;
	uint64_t skip = shim_config.reorder ? shim_random() % qp->n_placements
					    : qp->n_placements - 1;

	while (skip--)
		at = &(*at)->next;
	place(qp, at);
}

static void place_all(struct shim_qp *qp)
{
	while (qp->placements)
		place_one(qp);
}

/* What was acknowledged and is not in memory when the responder ends: may or may not get there. */
static void end_placements(struct shim_qp *qp)
{
	while (qp->placements) {
		struct shim_placement *p = qp->placements;

		if (shim_random() % 2) {
			place(qp, &qp->placements);
			continue;
		}
		qp->placements = p->next;
		qp->n_placements--;
		free(p);
	}
}

static void poison(struct ibv_wc *wc)
{
	memset(wc, 0xa5, sizeof(*wc));
}

static void complete_send(struct shim_qp *qp, const struct shim_request *r,
			  enum ibv_wc_status status)
{
	struct ibv_wc wc;

	poison(&wc);
	wc.wr_id = r->wr.wr_id;
	wc.status = status;
	wc.qp_num = qp->base.qp_num;
	wc.vendor_err = status == IBV_WC_SUCCESS ? 0 : 0x51;
	if (status == IBV_WC_SUCCESS)
		wc.opcode = r->wr.opcode == IBV_WR_SEND ? IBV_WC_SEND : IBV_WC_RDMA_WRITE;
	if (status != IBV_WC_SUCCESS || r->wr.send_flags & IBV_SEND_SIGNALED)
		shim_complete((struct shim_cq *)qp->base.send_cq, qp, &wc, r->number + 1);
}

static void complete_receive(struct shim_qp *qp, const struct shim_receive *r,
			     enum ibv_wc_status status, uint32_t len)
{
	struct ibv_wc wc;

	poison(&wc);
	wc.wr_id = r->wr_id;
	wc.status = status;
	wc.qp_num = qp->base.qp_num;
	if (status == IBV_WC_SUCCESS) {
		wc.vendor_err = 0;
		wc.opcode = IBV_WC_RECV;
		wc.byte_len = len;
		wc.wc_flags = 0;
	}
	shim_complete((struct shim_cq *)qp->base.recv_cq, qp, &wc, 0);
}

static void pop_request(struct shim_qp *qp)
{
	struct shim_request *r = qp->sq;

	qp->sq = r->next;
	if (!qp->sq)
		qp->sq_tail = &qp->sq;
	qp->queued_bytes -= r->sge.length;
	free(r->inlined);
	free(r);
}

static void pop_receive(struct shim_qp *qp)
{
	struct shim_receive *r = qp->rq;

	qp->rq = r->next;
	if (!qp->rq)
		qp->rq_tail = &qp->rq;
	qp->n_receives--;
	free(r);
}

static void flush(struct shim_qp *qp)
{
	for (; qp->sq; pop_request(qp))
		complete_send(qp, qp->sq, IBV_WC_WR_FLUSH_ERR);
	for (; qp->rq; pop_receive(qp))
		complete_receive(qp, qp->rq, IBV_WC_WR_FLUSH_ERR, 0);
}

void shim_qp_error(struct shim_qp *qp)
{
	if (qp->base.state == IBV_QPS_ERR)
		return;
	qp->base.state = IBV_QPS_ERR;
	if (qp->peer)
		end_placements(qp->peer);
	flush(qp);
}

void shim_qp_free(struct shim_qp *qp)
{
	struct shim_cq *cq = (struct shim_cq *)qp->base.send_cq;
	struct shim_qp **at = &shim_qps;

	shim_qp_error(qp);
	end_placements(qp);
	while (qp->sq)
		pop_request(qp);
	while (qp->rq)
		pop_receive(qp);
	for (uint32_t i = 0; i < (uint32_t)cq->base.cqe; i++)
		if (cq->qp[i] == qp)
			cq->qp[i] = NULL;
	if (qp->peer)
		qp->peer->peer = NULL;
	while (*at != qp)
		at = &(*at)->next;
	*at = qp->next;
	cq->n_qps--;
	cq->n_claimed -= qp->sq_depth + qp->rq_depth;
	shim_pd_use(qp->base.pd, -1);
	shim_object("queue pairs", -1);
	free(qp);
}

int ibv_query_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int attr_mask,
		 struct ibv_qp_init_attr *init_attr)
{
	pthread_mutex_lock(&shim_lock);
	memset(attr, 0, sizeof(*attr));
	attr->qp_state = qp->state;
	pthread_mutex_unlock(&shim_lock);
	return 0;
}

static int modify(struct shim_qp *qp, const struct ibv_qp_attr *attr, int mask)
{
	if (shim_fault(SHIM_MODIFY_QP))
		return EIO;
	if (attr->qp_state == IBV_QPS_ERR) {
		shim_qp_error(qp);
		return 0;
	}
	if (attr->qp_state != IBV_QPS_RTS || qp->base.state != IBV_QPS_RTS ||
	    shim_config.refuse_narrow)
		return EINVAL;
	if (mask & ~(IBV_QP_STATE | IBV_QP_ACCESS_FLAGS | IBV_QP_MIN_RNR_TIMER))
		return EINVAL;
	if (mask & IBV_QP_ACCESS_FLAGS)
		qp->access = attr->qp_access_flags;
	return 0;
}

int ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int attr_mask)
{
	int ret;

	pthread_mutex_lock(&shim_lock);
	ret = modify((struct shim_qp *)qp, attr, attr_mask);
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

/* --- posting --- */

static int queue_send(struct shim_qp *qp, struct ibv_send_wr *wr)
{
	struct shim_request *r;

	if (qp->posted - qp->freed >= qp->sq_depth)
		return ENOMEM;
	if (wr->num_sge != 1 || (wr->opcode != IBV_WR_SEND && wr->opcode != IBV_WR_RDMA_WRITE))
		return EINVAL;
	r = calloc(1, sizeof(*r));
	r->wr = *wr;
	r->sge = wr->sg_list[0];
	r->number = qp->posted++;
	if (wr->send_flags & IBV_SEND_INLINE) {
		r->inlined = malloc(r->sge.length);
		memcpy(r->inlined, (void *)(uintptr_t)r->sge.addr, r->sge.length);
	}
	qp->queued_bytes += r->sge.length;
	if (qp->queued_bytes > shim_count.max_queued_bytes)
		shim_count.max_queued_bytes = qp->queued_bytes;
	*qp->sq_tail = r;
	qp->sq_tail = &r->next;
	return 0;
}

int shim_post_send(struct ibv_qp *base, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct shim_qp *qp = (struct shim_qp *)base;
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	shim_count.posts++;
	if (base->state != IBV_QPS_RTS && base->state != IBV_QPS_ERR)
		ret = EINVAL;
	for (; !ret && wr; wr = ret ? wr : wr->next) {
		ret = shim_fault(SHIM_POST_SEND) ? ENOMEM : queue_send(qp, wr);
		if (ret)
			*bad = wr;
	}
	if (ret && base->state != IBV_QPS_RTS && base->state != IBV_QPS_ERR)
		*bad = wr;
	if (base->state == IBV_QPS_ERR)
		flush(qp);
	pthread_cond_broadcast(&shim_work);
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

static int queue_receive(struct shim_qp *qp, const struct ibv_recv_wr *wr)
{
	struct shim_receive *r;

	if (shim_fault(SHIM_POST_RECV) || qp->n_receives >= qp->rq_depth)
		return ENOMEM;
	r = calloc(1, sizeof(*r));
	r->wr_id = wr->wr_id;
	r->sge = wr->sg_list[0];
	*qp->rq_tail = r;
	qp->rq_tail = &r->next;
	qp->n_receives++;
	return 0;
}

int shim_post_recv(struct ibv_qp *base, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct shim_qp *qp = (struct shim_qp *)base;
	int ret = 0;

	pthread_mutex_lock(&shim_lock);
	for (; !ret && wr; wr = ret ? wr : wr->next) {
		ret = queue_receive(qp, wr);
		if (ret)
			*bad = wr;
	}
	if (base->state == IBV_QPS_ERR)
		flush(qp);
	pthread_cond_broadcast(&shim_work);
	pthread_mutex_unlock(&shim_lock);
	return ret;
}

/* --- what the device does --- */

static void fail_request(struct shim_qp *qp, enum ibv_wc_status status, bool peer_too)
{
	complete_send(qp, qp->sq, status);
	pop_request(qp);
	shim_qp_error(qp);
	if (peer_too && qp->peer)
		shim_qp_error(qp->peer);
}

static const void *local_bytes(const struct shim_qp *qp, const struct shim_request *r)
{
	if (r->inlined)
		return r->inlined;
	return reach(qp->base.pd, r->sge.lkey, r->sge.addr, r->sge.length, false, 0);
}

static void acknowledge(struct shim_qp *qp)
{
	complete_send(qp, qp->sq, IBV_WC_SUCCESS);
	pop_request(qp);
}

static void run_write(struct shim_qp *qp, const void *from)
{
	struct shim_request *r = qp->sq;
	struct shim_placement *p;
	void *to = NULL;

	if (qp->peer->access & IBV_ACCESS_REMOTE_WRITE)
		to = reach(qp->peer->base.pd, r->wr.wr.rdma.rkey, r->wr.wr.rdma.remote_addr,
			   r->sge.length, true, IBV_ACCESS_REMOTE_WRITE);
	if (!to) {
		fail_request(qp, IBV_WC_REM_ACCESS_ERR, true);
		return;
	}
	p = malloc(sizeof(*p) + r->sge.length);
	p->next = qp->placements;
	p->to = to;
	p->len = r->sge.length;
	memcpy(p->bytes, from, p->len);
	qp->placements = p;
	qp->n_placements++;
	shim_count.writes++;
	shim_count.write_bytes += p->len;
	if (p->len > shim_count.max_write_bytes)
		shim_count.max_write_bytes = p->len;
	acknowledge(qp);
}

static void run_send(struct shim_qp *qp, const void *from)
{
	struct shim_request *r = qp->sq;
	struct shim_receive *recv = qp->peer->rq;
	void *to;

	if (!recv) {
		shim_count.rnr++; /* and again, for ever: rnr_retry 7 */
		return;
	}
	place_all(qp);
	to = reach(qp->peer->base.pd, recv->sge.lkey, recv->sge.addr, r->sge.length, false,
		   IBV_ACCESS_LOCAL_WRITE);
	if (!to || r->sge.length > recv->sge.length) {
		complete_receive(qp->peer, recv, IBV_WC_LOC_LEN_ERR, 0);
		pop_receive(qp->peer);
		fail_request(qp, IBV_WC_REM_INV_REQ_ERR, true);
		return;
	}
	memcpy(to, from, r->sge.length);
	shim_count.sends++;
	complete_receive(qp->peer, recv, IBV_WC_SUCCESS, r->sge.length);
	pop_receive(qp->peer);
	/* The acknowledgement may come long after what the peer does upon the message. */
	r->executed = true;
	r->hold = shim_config.reorder ? (uint32_t)(shim_random() % 2000) : 0;
	if (!r->hold)
		acknowledge(qp);
}

static void run_request(struct shim_qp *qp)
{
	const void *from = local_bytes(qp, qp->sq);

	shim_count.wide += (qp->access & IBV_ACCESS_REMOTE_READ) != 0 ||
			   (qp->peer && qp->peer->access & IBV_ACCESS_REMOTE_READ);
	if (qp->sq->executed && qp->sq->hold)
		qp->sq->hold--;
	else if (qp->sq->executed)
		acknowledge(qp);
	else if (shim_fault(SHIM_EXECUTE))
		fail_request(qp, IBV_WC_FATAL_ERR, false);
	else if (!from)
		fail_request(qp, IBV_WC_LOC_PROT_ERR, false);
	else if (!qp->peer || qp->peer->base.state == IBV_QPS_ERR)
		fail_request(qp, IBV_WC_RETRY_EXC_ERR, false);
	else if (qp->sq->wr.opcode == IBV_WR_SEND)
		run_send(qp, from);
	else
		run_write(qp, from);
}

/* Connected at both ends, or at one whose peer is gone. */
static bool is_ready(const struct shim_qp *qp)
{
	return qp->base.state == IBV_QPS_RTS && qp->sq &&
	       (!qp->peer || qp->peer->base.state != IBV_QPS_INIT);
}

bool shim_has_work(void)
{
	for (struct shim_qp *qp = shim_qps; qp; qp = qp->next)
		if (is_ready(qp) || qp->placements)
			return true;
	return false;
}

/* One thing, of one queue pair. */
void shim_step(void)
{
	struct shim_qp *qp = shim_qps;
	uint64_t n = 0;

	for (; qp; qp = qp->next)
		n++;
	if (!n)
		return;
	n = shim_random() % n;
	for (qp = shim_qps; n; n--)
		qp = qp->next;
	if (qp->placements && (qp->n_placements == MAX_PLACEMENTS || shim_random() % 4 == 0))
		place_one(qp);
	else if (is_ready(qp))
		run_request(qp);
}
