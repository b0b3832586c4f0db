/* SPDX-License-Identifier: BSD-2-Clause */
/* rj_run(): the events as function calls. Uses nothing but the public functions. */
#include <ramjet/session.h>

#include <errno.h>
#include <poll.h>

/* What a request's hook answers; without a hook: yes. */
static int call(struct rj_session *s, const struct rj_hooks *h, void *arg,
		const struct rj_event *ev)
{
	switch (ev->type) {
	case RJ_RQ_SETUP:
		return h->setup ? h->setup(arg, s, ev->u.setup.blob, ev->u.setup.len_bytes) : 0;
	case RJ_RQ_REGION: return h->region ? h->region(arg, s, ev) : -ENOSYS;
	case RJ_RQ_PAUSE: return h->pause ? h->pause(arg, s) : RJ_WAS_RUNNING;
	case RJ_RQ_SAVE: return h->save ? h->save(arg, s) : 0;
	case RJ_RQ_LOAD: return h->load ? h->load(arg, s) : 0;
	case RJ_RQ_RELEASE: return h->release ? h->release(arg, s) : 0;
	case RJ_RQ_RECLAIM: return h->reclaim ? h->reclaim(arg, s) : 0;
	case RJ_RQ_ACQUIRE: return h->acquire ? h->acquire(arg, s) : 0;
	case RJ_RQ_RESUME: return h->resume ? h->resume(arg, s, ev->u.resume.run) : 0;
	case RJ_RQ_RESET: return h->reset ? h->reset(arg, s) : -ENOSYS;
	case RJ_RQ_THROTTLE:
		return h->throttle ? h->throttle(arg, s, ev->u.throttle.percent) : -ENOSYS;
	case RJ_RQ_DROP: return h->drop ? h->drop(arg, s) : 0;
	default: return -ENOSYS;
	}
}

int rj_run(struct rj_session *s, const struct rj_hooks *h, void *arg)
{
	struct pollfd fd = { .fd = rj_event_fd(s), .events = POLLIN };
	int ret;

	if (!h || h->size != sizeof(*h))
		return -EINVAL;
	ret = rj_start(s);
	if (ret < 0 && ret != RJ_E_STATE)
		return ret;
	for (;;) {
		struct rj_event ev = { .size = sizeof(ev) };

		ret = rj_next_event(s, &ev);
		if (ret < 0)
			return ret;
		if (!ret) {
			poll(&fd, 1, -1);
			continue;
		}
		if (ev.request)
			rj_answer(s, ev.request, call(s, h, arg, &ev));
		else if (h->event)
			h->event(arg, s, &ev);
		if (ev.type == RJ_EV_DONE)
			return ev.u.done.status;
	}
}
