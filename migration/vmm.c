/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/vmm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

struct rji_queued {
	struct rji_queued *next;
	struct rj_event ev;
};

int rji_vmm_init(struct rji_vmm *vmm, int wake_fd)
{
	memset(vmm, 0, sizeof(*vmm));
	vmm->wake_fd = wake_fd;
	vmm->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vmm->event_fd < 0)
		return -errno;
	vmm->kept_for_done = malloc(sizeof(*vmm->kept_for_done));
	if (!vmm->kept_for_done) {
		close(vmm->event_fd);
		return -ENOMEM;
	}
	pthread_mutex_init(&vmm->lock, NULL);
	return 0;
}

void rji_vmm_fini(struct rji_vmm *vmm)
{
	while (vmm->first) {
		struct rji_queued *next = vmm->first->next;

		free(vmm->first);
		vmm->first = next;
	}
	free(vmm->kept_for_done);
	pthread_mutex_destroy(&vmm->lock);
	close(vmm->event_fd);
}

/* With the lock held. */
static void enqueue(struct rji_vmm *vmm, struct rji_queued *q, const struct rj_event *ev)
{
	q->next = NULL;
	q->ev = *ev;
	q->ev.size = sizeof(q->ev);
	if (vmm->last)
		vmm->last->next = q;
	else
		vmm->first = q;
	vmm->last = q;
	eventfd_write(vmm->event_fd, 1);
}

void rji_vmm_tell(struct rji_vmm *vmm, const struct rj_event *ev)
{
	struct rji_queued *q = malloc(sizeof(*q));

	pthread_mutex_lock(&vmm->lock);
	if (!q && ev->type == RJ_EV_DONE) {
		q = vmm->kept_for_done;
		vmm->kept_for_done = NULL;
	}
	if (q)
		enqueue(vmm, q, ev);
	pthread_mutex_unlock(&vmm->lock);
}

static struct rji_request *find(struct rji_vmm *vmm, uint64_t id)
{
	for (uint32_t i = 0; i < RJI_MAX_REQUESTS; i++) {
		if (vmm->requests[i].id == id)
			return &vmm->requests[i];
	}
	return NULL;
}

uint64_t rji_vmm_ask(struct rji_vmm *vmm, const struct rj_event *ev)
{
	struct rji_queued *q = malloc(sizeof(*q));
	struct rj_event asking = *ev;
	struct rji_request *r;

	asking.request = 0;
	pthread_mutex_lock(&vmm->lock);
	r = find(vmm, 0);
	if (q && r) {
		asking.request = ++vmm->last_request;
		*r = (struct rji_request){ .id = asking.request,
					   .type = ev->type,
					   .asked_ns = rji_now_ns() };
		enqueue(vmm, q, &asking);
	} else {
		free(q);
	}
	pthread_mutex_unlock(&vmm->lock);
	return asking.request;
}

bool rji_vmm_answered(struct rji_vmm *vmm, uint64_t id, int *status_p)
{
	struct rji_request *r;
	bool answered;

	pthread_mutex_lock(&vmm->lock);
	r = find(vmm, id);
	answered = r && r->answered;
	if (answered) {
		*status_p = r->status;
		r->id = 0;
	}
	pthread_mutex_unlock(&vmm->lock);
	return answered;
}

/* With the lock held: drop the event of a request that was not fetched yet. */
static void unqueue(struct rji_vmm *vmm, uint64_t id)
{
	struct rji_queued **at = &vmm->first, *before = NULL;
	eventfd_t drained;

	while (*at && (*at)->ev.request != id) {
		before = *at;
		at = &before->next;
	}
	if (*at) {
		struct rji_queued *q = *at;

		*at = q->next;
		if (vmm->last == q)
			vmm->last = before;
		free(q);
	}
	if (!vmm->first)
		eventfd_read(vmm->event_fd, &drained);
}

void rji_vmm_withdraw(struct rji_vmm *vmm, uint64_t id)
{
	struct rji_request *r;

	pthread_mutex_lock(&vmm->lock);
	r = find(vmm, id);
	if (r) {
		r->id = 0;
		unqueue(vmm, id);
	}
	pthread_mutex_unlock(&vmm->lock);
}

bool rji_vmm_is_asking(struct rji_vmm *vmm, enum rj_event_type type)
{
	bool asking = false;

	pthread_mutex_lock(&vmm->lock);
	for (uint32_t i = 0; i < RJI_MAX_REQUESTS; i++) {
		const struct rji_request *r = &vmm->requests[i];

		asking |= r->id && !r->answered && r->type == type;
	}
	pthread_mutex_unlock(&vmm->lock);
	return asking;
}

int rji_vmm_next(struct rji_vmm *vmm, struct rj_event *ev_p)
{
	struct rji_queued *q;
	eventfd_t drained;

	if (ev_p->size != sizeof(*ev_p))
		return -EINVAL;
	pthread_mutex_lock(&vmm->lock);
	q = vmm->first;
	if (q) {
		vmm->first = q->next;
		if (!vmm->first)
			vmm->last = NULL;
	}
	if (!vmm->first)
		eventfd_read(vmm->event_fd, &drained);
	pthread_mutex_unlock(&vmm->lock);
	if (!q)
		return 0;
	*ev_p = q->ev;
	free(q);
	return 1;
}

static void note_slowness(struct rji_vmm *vmm, const struct rji_request *r)
{
	uint64_t took = rji_now_ns() - r->asked_ns;

	/* under the lock */
	if (took > atomic_load_explicit(&vmm->slowest_ns, memory_order_relaxed)) {
		atomic_store_explicit(&vmm->slowest_ns, took, memory_order_relaxed);
		atomic_store_explicit(&vmm->slowest_type, (uint32_t)r->type, memory_order_relaxed);
	}
}

int rji_vmm_answer(struct rji_vmm *vmm, uint64_t id, int status)
{
	struct rji_request *r;
	int ret = -ENOENT;

	pthread_mutex_lock(&vmm->lock);
	r = id ? find(vmm, id) : NULL;
	if (r && !r->answered) {
		r->answered = true;
		r->status = status;
		note_slowness(vmm, r);
		ret = 0;
	}
	pthread_mutex_unlock(&vmm->lock);
	if (!ret)
		eventfd_write(vmm->wake_fd, 1);
	return ret;
}

const char *rj_event_name(enum rj_event_type type)
{
	switch (type) {
	case RJ_EV_NONE: return "none";
	case RJ_EV_STATE: return "state";
	case RJ_EV_ROUND: return "round";
	case RJ_EV_WARN: return "warn";
	case RJ_EV_DONE: return "done";
	case RJ_EV_READY: return "ready";
	case RJ_RQ_SETUP: return "setup";
	case RJ_RQ_REGION: return "region";
	case RJ_RQ_PAUSE: return "pause";
	case RJ_RQ_SAVE: return "save";
	case RJ_RQ_LOAD: return "load";
	case RJ_RQ_RELEASE: return "release";
	case RJ_RQ_RECLAIM: return "reclaim";
	case RJ_RQ_ACQUIRE: return "acquire";
	case RJ_RQ_RESUME: return "resume";
	case RJ_RQ_RESET: return "reset";
	case RJ_RQ_DROP: return "drop";
	case RJ_RQ_THROTTLE: return "throttle";
	}
	return "unknown";
}
