/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/session_impl.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"
#include "pagesender/apply.h"
#include "pagesender/dirty/tracker_impl.h"
#include "rdma/rdma.h"
#include "transport/socket.h"

void rj_opts_init(struct rj_opts *o)
{
	*o = (struct rj_opts){
		.size = sizeof(*o),
		.control_fd = -1,
		.listen_fd = -1,
		.max_downtime_ms = 300,
		.strict_downtime = 1,
		.peer_timeout_ms = 5000,
		.connect_timeout_ms = 10000,
		.request_timeout_ms = 30000,
		.slow_answer_ms = 1000,
		.outcome_keep_ms = 8000,
		.state_max_bytes = 1ull << 30,
		.gid_index = -1,
		.traffic_class = -1,
		.registration = RJ_REGISTER_DEFAULT,
		.filters = RJ_FILTER_ALL,
	};
}

void rj_region_init(struct rj_region *r)
{
	*r = (struct rj_region){
		.size = sizeof(*r), .gpa = RJ_NO_GPA, .page_bytes = 4096, .fd = -1
	};
}

const char *rj_state_name(enum rj_state state)
{
	static const char *const names[] = {
		[RJ_STATE_NEW] = "new",
		[RJ_STATE_CONNECTING] = "connecting",
		[RJ_STATE_SETUP] = "setup",
		[RJ_STATE_BULK] = "bulk",
		[RJ_STATE_DIRTY] = "dirty",
		[RJ_STATE_STOPPING] = "stopping",
		[RJ_STATE_PREPARED] = "prepared",
		[RJ_STATE_COMMITTED] = "committed",
		[RJ_STATE_COMPLETED] = "completed",
		[RJ_STATE_FAILED] = "failed",
		[RJ_STATE_CANCELLED] = "cancelled",
		[RJ_STATE_UNKNOWN] = "unknown",
	};

	return state >= RJ_STATE_NEW && state <= RJ_STATE_UNKNOWN ? names[state] : "?";
}

/* --- opening --- */

static const struct rji_transport_ops *transport_named(const char *scheme)
{
	if (!strcmp(scheme, "rdma"))
		return &rji_rdma_transport;
	if (!strcmp(scheme, "null"))
		return &rji_null_transport;
	if (!strcmp(scheme, "file"))
		return &rji_file_transport;
	return &rji_tcp_transport;
}

static bool is_valid_opts(const struct rj_opts *o, bool is_destination)
{
	if (!o || o->size != sizeof(*o) || o->n_lanes > RJ_MAX_LANES ||
	    o->n_lane_fds > RJ_MAX_LANES)
		return false;
	if (!o->uri && o->control_fd < 0 && o->listen_fd < 0)
		return false;
	if (!!o->lane_fds != !!o->n_lane_fds)
		return false;
	if (o->n_lane_fds && o->n_lanes && o->n_lanes != o->n_lane_fds)
		return false;
	if (o->registration > RJ_REGISTER_DEFAULT)
		return false;
	if (!is_destination && (o->listen_fd >= 0 || o->data_addrs))
		return false;
	if (o->file_flags &
	    ~(is_destination ? RJ_FILE_LAZY : RJ_FILE_STOPPED | RJ_FILE_STAY_PAUSED))
		return false;
	if (o->on_timeout > RJ_ON_TIMEOUT_STOP_ANYWAY || o->throttle_max_percent > 99 ||
	    o->lane_nice > 19 || o->filters & ~(uint32_t)RJ_FILTER_ALL)
		return false;
	return o->max_downtime_ms && o->peer_timeout_ms && o->request_timeout_ms &&
	       o->connect_timeout_ms;
}

/* Own copies of what the options point to. */
static int copy_opts(struct rj_session *s, const struct rj_opts *o)
{
	s->o = *o;
	s->o.control_fd = s->o.listen_fd = -1;
	if (o->uri && !(s->uri_text = strdup(o->uri)))
		return -ENOMEM;
	if (o->data_addrs && !(s->data_addrs = strdup(o->data_addrs)))
		return -ENOMEM;
	if (o->cpus && *o->cpus && !(s->cpu_list = strdup(o->cpus)))
		return -ENOMEM;
	s->o.uri = s->uri_text;
	s->o.data_addrs = s->data_addrs;
	s->o.cpus = s->cpu_list;
	s->o.lane_fds = o->n_lane_fds ? s->lane_fds : NULL;
	for (uint32_t i = 0; i < o->n_lane_fds; i++) {
		s->lane_fds[i] = fcntl(o->lane_fds[i], F_DUPFD_CLOEXEC, 0);
		if (s->lane_fds[i] < 0)
			return -errno;
	}
	if (o->n_lane_fds)
		s->o.n_lanes = o->n_lane_fds;
	if (o->control_fd >= 0 && (s->o.control_fd = fcntl(o->control_fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return -errno;
	if (o->listen_fd >= 0 && (s->listen_fd = fcntl(o->listen_fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return -errno;
	return 0;
}

static int init_parts(struct rj_session *s)
{
	int ret;

	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0)
		return -errno;
	ret = rji_stop_init(&s->stop);
	if (ret < 0)
		goto close_wake;
	ret = rji_vmm_init(&s->vmm, s->wake_fd);
	if (ret < 0)
		goto fini_stop;
	ret = rji_holds_init(&s->holds);
	if (ret < 0)
		goto fini_vmm;
	rji_state_stream_init(&s->device_state, s->wake_fd);
	pthread_mutex_init(&s->err_lock, NULL);
	pthread_mutex_init(&s->reply_lock, NULL);
	pthread_mutex_init(&s->tp_lock, NULL);
	pthread_mutex_init(&s->place_lock, NULL);
	rji_error_init(&s->err);
	rji_control_init(&s->ctl, -1, s->o.peer_timeout_ms, &s->stop);
	rji_pace_init(&s->pace, s->o.bandwidth_bytes_per_s);
	rji_downtime_init(&s->model, s->o.state_bytes);
	rji_free_hints_init(&s->hints, &s->set, s->o.filters & RJ_FILTER_FREE);
	atomic_init(&s->max_downtime_ms, s->o.max_downtime_ms);
	return 0;

fini_vmm:
	rji_vmm_fini(&s->vmm);
fini_stop:
	rji_stop_fini(&s->stop);
close_wake:
	close(s->wake_fd);
	return ret;
}

static void free_opts(struct rj_session *s)
{
	for (uint32_t i = 0; i < s->o.n_lane_fds; i++) {
		if (s->lane_fds[i] >= 0)
			close(s->lane_fds[i]);
	}
	if (s->o.control_fd >= 0)
		close(s->o.control_fd);
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	free(s->uri_text);
	free(s->data_addrs);
	free(s->cpu_list);
}

static int open_session(struct rj_env *env, const struct rj_opts *o, bool is_destination,
			struct rj_session **s_p)
{
	struct rj_session *s;
	struct rj_error err;
	int ret;

	if (!env || !s_p || !is_valid_opts(o, is_destination))
		return -EINVAL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->own_host = env->host;
	s->own_host.busy_nice = (int)o->lane_nice;
	s->host = &s->own_host;
	s->is_destination = is_destination;
	s->o.control_fd = -1; /* or a failure before they are copied closes 0 */
	s->listen_fd = -1;
	for (uint32_t i = 0; i < RJ_MAX_LANES; i++)
		s->lane_fds[i] = -1;
	rji_error_init(&err);
	ret = o->uri ? rji_uri_parse(o->uri, &s->uri, &err) : 0;
	if (!ret && !strcmp(s->uri.scheme, "auto"))
		ret = rji_fail(
			&err, RJ_E_URI,
			"auto:// is for rj_plan(); open the session with the transport it names");
	if (ret < 0)
		rji_log(s->host, RJ_LOG_ERROR, "%s", err.text);
	if (!ret)
		ret = copy_opts(s, o);
	if (!ret)
		ret = init_parts(s);
	if (ret < 0) {
		free_opts(s);
		free(s);
		return ret;
	}
	s->ops = transport_named(s->uri.scheme);
	*s_p = s;
	return 0;
}

int rj_source_open(struct rj_env *env, const struct rj_opts *o, struct rj_session **s_p)
{
	return open_session(env, o, false, s_p);
}

int rj_destination_open(struct rj_env *env, const struct rj_opts *o, struct rj_session **s_p)
{
	return open_session(env, o, true, s_p);
}

void rji_session_use_transport(struct rj_session *s, const struct rji_transport_ops *ops, void *arg)
{
	s->ops = ops;
	s->transport_arg = arg;
}

/* --- what the VMM gives before the start --- */

static bool is_valid_region(const struct rj_region *r)
{
	size_t len = r->name ? strnlen(r->name, RJ_NAME_BYTES) : 0;
	uint64_t page = r->page_bytes;

	if (r->size != sizeof(*r) || !len || len == RJ_NAME_BYTES || !r->host || !r->len_bytes)
		return false;
	if (page < 4096 || page > 1u << 30 || page & (page - 1))
		return false;
	if (r->len_bytes > UINTPTR_MAX - (uintptr_t)r->host)
		return false;
	if (r->flags & ~(uint32_t)(RJ_REGION_ZEROED | RJ_REGION_MARKED))
		return false;
	return !(r->len_bytes % page) && !((uintptr_t)r->host % page);
}

/* The destination may add one while it is asked for it, and only that one. */
static bool may_add_region(const struct rj_session *s, const char *name)
{
	if (!s->started)
		return true;
	return s->is_destination && atomic_load_explicit(&s->asked, memory_order_acquire) &&
	       !strcmp(name, s->asked_region.name);
}

int rj_add_region(struct rj_session *s, const struct rj_region *r, uint32_t *region_p)
{
	struct rji_given_region *given;

	if (!s || !r || !is_valid_region(r))
		return -EINVAL;
	if (!may_add_region(s, r->name))
		return RJ_E_STATE;
	for (uint32_t i = 0; i < s->n_given; i++) {
		if (!strcmp(s->given[i].name, r->name))
			return -EEXIST;
	}
	if (s->n_given == RJ_MAX_REGIONS)
		return -ENOSPC;
	if (!s->is_destination && rji_pageset_add(&s->set, r) < 0)
		return -ENOMEM;
	given = &s->given[s->n_given];
	given->r = *r;
	snprintf(given->name, sizeof(given->name), "%s", r->name);
	given->r.name = given->name;
	s->fig.guest_bytes += r->len_bytes;
	given->told = s->n_given;
	if (region_p)
		*region_p = given->told;
	s->n_given++;
	return 0;
}

int rj_add_tracker(struct rj_session *s, struct rj_tracker *t)
{
	if (!s || !t || s->is_destination)
		return -EINVAL;
	if (s->started)
		return RJ_E_STATE;
	if (s->n_trackers == RJI_MAX_TRACKERS)
		return -ENOSPC;
	s->trackers[s->n_trackers++] = t;
	return 0;
}

int rj_add_blocker(struct rj_session *s, const char *reason)
{
	char *copy;

	if (!s || !reason || s->is_destination)
		return -EINVAL;
	if (s->started)
		return RJ_E_STATE;
	copy = strdup(reason);
	if (!copy)
		return -ENOMEM;
	free(s->blocker);
	s->blocker = copy;
	return 0;
}

static int copy_blob(void **to, size_t *to_bytes, const void *blob, size_t len_bytes)
{
	void *copy = malloc(len_bytes ? len_bytes : 1);

	if (!copy)
		return -ENOMEM;
	if (len_bytes)
		memcpy(copy, blob, len_bytes);
	free(*to);
	*to = copy;
	*to_bytes = len_bytes;
	return 0;
}

int rj_set_setup_blob(struct rj_session *s, const void *blob, size_t len_bytes)
{
	if (!s || s->is_destination || (len_bytes && !blob) || len_bytes > RJ_MAX_BLOB_BYTES)
		return -EINVAL;
	if (s->started)
		return RJ_E_STATE;
	return copy_blob(&s->blob, &s->blob_bytes, blob, len_bytes);
}

int rj_set_setup_reply(struct rj_session *s, const void *blob, size_t len_bytes)
{
	int ret;

	if (!s || !s->is_destination || (len_bytes && !blob) || len_bytes > RJ_MAX_BLOB_BYTES)
		return -EINVAL;
	if (!rji_vmm_is_asking(&s->vmm, RJ_RQ_SETUP))
		return RJ_E_STATE;
	pthread_mutex_lock(&s->reply_lock);
	ret = copy_blob(&s->reply, &s->reply_bytes, blob, len_bytes);
	pthread_mutex_unlock(&s->reply_lock);
	return ret;
}

ssize_t rj_get_setup_reply(struct rj_session *s, void *blob, size_t len_bytes)
{
	ssize_t ret = RJ_E_STATE;

	if (!s || s->is_destination || (len_bytes && !blob))
		return -EINVAL;
	pthread_mutex_lock(&s->reply_lock);
	if (s->reply_known) {
		if (len_bytes)
			memcpy(blob, s->reply,
			       len_bytes < s->reply_bytes ? len_bytes : s->reply_bytes);
		ret = (ssize_t)s->reply_bytes;
	}
	pthread_mutex_unlock(&s->reply_lock);
	return ret;
}

/* --- start, end --- */

static int note_error(struct rj_session *s, const struct rj_error *err)
{
	pthread_mutex_lock(&s->err_lock);
	s->err = *err;
	pthread_mutex_unlock(&s->err_lock);
	rji_log(s->host, RJ_LOG_ERROR, "%s", err->text);
	return err->code;
}

uint32_t rji_session_lanes_for_cap(const struct rj_session *s)
{
	uint32_t n = RJ_MAX_LANES;

	if (s->ops == &rji_rdma_transport && s->o.registration == RJ_REGISTER_LAZY &&
	    s->o.pin_cap_bytes)
		n = rji_rdma_lanes_for_cap(s->o.pin_cap_bytes);
	return n < RJ_MAX_LANES ? n : RJ_MAX_LANES;
}

/* Where the number of lanes is left to us there are as many as fit, but one. */
static int check_cap(const struct rj_session *s, struct rj_error *err)
{
	uint32_t most = rji_session_lanes_for_cap(s), n = s->o.n_lanes ? s->o.n_lanes : 1;

	if (n <= most)
		return 0;
	return rji_fail(err, RJ_E_MEMLOCK,
			"a cap of %" PRIu64
			" bytes on pinned memory is too small for %u lane%s: allow %" PRIu64
			" at least%s",
			s->o.pin_cap_bytes, n, n > 1 ? "s" : "", rji_rdma_least_cap(n),
			most ? ", or use fewer lanes" : "");
}

static int prepare(struct rj_session *s, struct rj_error *err)
{
	int ret = rji_session_take_cpus(s, err);

	if (ret < 0)
		return ret;
	if (s->is_destination)
		return rji_destination_listen(s, err);
	if (!s->n_given)
		return rji_fail(err, -EINVAL,
				"there is no memory to migrate: call rj_add_region() first");
	ret = check_cap(s, err);
	if (ret < 0)
		return ret;
	if (rji_random_bytes(s->session_id, sizeof(s->session_id)) < 0 ||
	    rji_random_bytes(s->secret, sizeof(s->secret)) < 0)
		return rji_fail(err, -EIO, "no random numbers from the kernel");
	rji_harvest_fini(&s->harvest); /* of a start that failed */
	if (rji_harvest_init(&s->harvest, &s->set, &s->holds) < 0)
		return rji_fail(err, -ENOMEM, "no memory for the list of windows");
	s->harvest.hints = &s->hints;
	return rji_preflight(s, err);
}

int rj_start(struct rj_session *s)
{
	struct rj_error err;
	int ret;

	if (!s)
		return -EINVAL;
	if (s->started)
		return RJ_E_STATE;
	rji_error_init(&err);
	ret = prepare(s, &err);
	if (ret < 0)
		return note_error(s, &err);
	s->fig.started_ns = rji_now_ns();
	if (!s->is_destination && s->o.timeout_ms && s->o.on_timeout)
		s->stop_at_ns = s->fig.started_ns + s->o.timeout_ms * RJI_NS_PER_MS;
	else if (!s->is_destination && s->o.timeout_ms)
		s->give_up_at_ns = s->fig.started_ns + s->o.timeout_ms * RJI_NS_PER_MS;
	s->started = true;
	rji_session_set_state(s, RJ_STATE_CONNECTING);
	if (!s->is_destination)
		/* rj_mark_dirty() */
		atomic_store_explicit(&s->marking, &s->set, memory_order_release);
	ret = rji_thread_start(s->host, "rj-control",
			       s->is_destination ? rji_destination_thread : rji_source_thread, s,
			       &s->control_thread);
	if (ret < 0) {
		s->started = false;
		rji_fail_sys(&err, ret, -ret, "cannot start the control thread");
		return note_error(s, &err);
	}
	return 0;
}

void rj_cancel(struct rj_session *s)
{
	if (!s)
		return;
	/* pairs with check_cancel() */
	atomic_store_explicit(&s->cancel, true, memory_order_release);
	eventfd_write(s->wake_fd, 1);
}

void rj_close(struct rj_session **s_p)
{
	struct rj_session *s = s_p ? *s_p : NULL;

	if (!s)
		return;
	if (s->started) {
		rji_state_stream_open(&s->device_state, false);
		atomic_store_explicit(&s->closing, true, memory_order_release);
		eventfd_write(s->wake_fd, 1);
		pthread_join(s->control_thread, NULL);
	}
	rji_control_fini(&s->ctl);
	rji_harvest_fini(&s->harvest);
	rji_filters_fini(&s->filters);
	rji_free_hints_fini(&s->hints);
	rji_pageset_fini(&s->set);
	rji_holds_fini(&s->holds);
	rji_state_stream_fini(&s->device_state);
	rji_vmm_fini(&s->vmm);
	rji_stop_fini(&s->stop);
	close(s->wake_fd);
	pthread_mutex_destroy(&s->err_lock);
	pthread_mutex_destroy(&s->reply_lock);
	pthread_mutex_destroy(&s->tp_lock);
	pthread_mutex_destroy(&s->place_lock);
	rji_session_forget_places(s);
	free_opts(s);
	free(s->blocker);
	free(s->blob);
	free(s->reply);
	free(s->loaded);
	free(s);
	*s_p = NULL;
}

uint32_t rj_linger_ms(const struct rj_session *s)
{
	uint64_t until, now = rji_now_ns();

	if (!s)
		return 0;
	until = atomic_load_explicit(&s->linger_until_ns, memory_order_acquire);
	return until > now ? (uint32_t)((until - now) / RJI_NS_PER_MS) + 1 : 0;
}

void rji_session_set_state(struct rj_session *s, enum rj_state state)
{
	struct rj_event ev = { .type = RJ_EV_STATE, .u.state.state = state };

	if (atomic_exchange_explicit(&s->state, (uint32_t)state, memory_order_acq_rel) ==
	    (uint32_t)state)
		return;
	rji_log(s->host, RJ_LOG_INFO, "%s: %s", s->is_destination ? "destination" : "source",
		rj_state_name(state));
	rji_vmm_tell(&s->vmm, &ev);
}

void rji_session_tell_warning(struct rj_session *s, const char *fmt, ...)
{
	struct rj_event ev = { .type = RJ_EV_WARN };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(ev.u.warn.text, sizeof(ev.u.warn.text), fmt, ap);
	va_end(ap);
	rji_log(s->host, RJ_LOG_WARN, "%s", ev.u.warn.text);
	rji_vmm_tell(&s->vmm, &ev);
}

void rji_session_end(struct rj_session *s, enum rj_state state, enum rj_outcome runs,
		     const struct rj_error *err)
{
	struct rj_event done = { .type = RJ_EV_DONE,
				 .u.done = { .status = err->code, .runs = runs } };

	if (err->code)
		note_error(s, err);
	atomic_store_explicit(&s->marking, NULL, memory_order_release);
	rji_session_set_state(s, state);
	rji_session_count_cpu(s);
	rji_vmm_tell(&s->vmm, &done);
}

int rj_error_detail(const struct rj_session *s_, struct rj_error *e_p)
{
	struct rj_session *s = (struct rj_session *)(uintptr_t)s_; /* for its lock */

	if (!s || !e_p || e_p->size != sizeof(*e_p))
		return -EINVAL;
	pthread_mutex_lock(&s->err_lock);
	*e_p = s->err;
	pthread_mutex_unlock(&s->err_lock);
	return 0;
}

int rj_resolve(struct rj_session *s, enum rj_outcome runs)
{
	if (!s || (runs != RJ_RUNS_AT_SOURCE && runs != RJ_RUNS_AT_DESTINATION))
		return -EINVAL;
	if (atomic_load_explicit(&s->state, memory_order_acquire) != RJ_STATE_UNKNOWN)
		return RJ_E_STATE;
	rji_session_set_state(s, runs == RJ_RUNS_AT_DESTINATION ? RJ_STATE_COMPLETED
								: RJ_STATE_FAILED);
	return 0;
}

/* --- talking to it --- */

int rj_set(struct rj_session *s, enum rj_param param, uint64_t value)
{
	if (!s)
		return -EINVAL;
	switch (param) {
	case RJ_PARAM_BANDWIDTH_BYTES_PER_S: rji_pace_set(&s->pace, value); return 0;
	case RJ_PARAM_MAX_DOWNTIME_MS:
		if (!value || value > UINT32_MAX)
			return -EINVAL;
		atomic_store_explicit(&s->max_downtime_ms, (uint32_t)value, memory_order_relaxed);
		return 0;
	case RJ_PARAM_HOLD_SWITCHOVER:
		if (value > 1)
			return -EINVAL;
		atomic_store_explicit(&s->hold_switchover, value, memory_order_relaxed);
		eventfd_write(s->wake_fd, 1);
		return 0;
	}
	return -EINVAL;
}

int rj_mark_dirty(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes)
{
	struct rji_pageset *set;

	if (!s)
		return -EINVAL;
	if (s->is_destination)
		return rji_loaded_mark(s, region, offset, len_bytes);
	set = atomic_load_explicit(&s->marking, memory_order_acquire);
	return set ? rji_pageset_mark(set, region, offset, len_bytes) : 0;
}

int rj_mark_free(struct rj_session *s, uint32_t region, uint64_t offset, uint64_t len_bytes,
		 uint64_t generation)
{
	return s && !s->is_destination
		       ? rji_free_mark(&s->hints, region, offset, len_bytes, generation)
		       : -EINVAL;
}

int rj_free_begin(struct rj_session *s, uint64_t *generation_p)
{
	return s && generation_p && !s->is_destination ? rji_free_begin(&s->hints, generation_p)
						       : -EINVAL;
}

int rj_event_fd(const struct rj_session *s)
{
	return s ? s->vmm.event_fd : -EINVAL;
}

int rj_next_event(struct rj_session *s, struct rj_event *ev_p)
{
	return s && ev_p ? rji_vmm_next(&s->vmm, ev_p) : -EINVAL;
}

int rj_answer(struct rj_session *s, uint64_t request, int status)
{
	return s ? rji_vmm_answer(&s->vmm, request, status) : -EINVAL;
}

int rj_state_write(struct rj_session *s, const void *p, size_t len_bytes)
{
	if (!s || s->is_destination || (len_bytes && !p))
		return -EINVAL;
	if (!rji_vmm_is_asking(&s->vmm, RJ_RQ_SAVE))
		return RJ_E_STATE;
	return rji_state_stream_write(&s->device_state, p, len_bytes);
}

ssize_t rj_state_read(struct rj_session *s, void *p, size_t len_bytes)
{
	if (!s || !s->is_destination || (len_bytes && !p))
		return -EINVAL;
	return rji_state_stream_read(&s->device_state, p, len_bytes);
}

/* --- the data path --- */

/* Where a destination's lanes come in: where the VMM said, else where control did. */
static const char *lane_hosts(const struct rj_session *s, struct rji_uri *local)
{
	if (s->data_addrs || !s->is_destination || rji_socket_local(s->ctl.fd, local) < 0)
		return s->data_addrs;
	return local->host;
}

int rji_session_create_transport(struct rj_session *s, struct rj_error *err)
{
	struct rji_uri local;
	struct rji_transport_opts o = {
		.host = s->host,
		.stop = &s->stop,
		.is_destination = s->is_destination,
		.devices = s->env->devices,
		.topology = s->env->topology,
		.data_hosts = lane_hosts(s, &local),
		.gid_index = s->o.gid_index,
		.traffic_class = s->o.traffic_class,
		.peer_timeout_ms = s->o.peer_timeout_ms,
		.lazy = s->o.registration == RJ_REGISTER_LAZY,
		/* a source waits for nobody but its own lanes */
		.background = s->features & RJI_FEATURE_WINDOWS || !s->is_destination,
		.pin_cap_bytes = s->o.pin_cap_bytes,
		.n_lanes = s->o.n_lanes,
		.wake_fd = s->wake_fd,
		.pins = &s->pins,
		.lane_fds = s->o.lane_fds,
		.n_lane_fds = s->o.n_lane_fds,
		.apply = s->is_destination && s->features & RJI_FEATURE_CODED ? &rji_apply : NULL,
		.arg = s->transport_arg,
	};
	int ret;

	pthread_mutex_lock(&s->tp_lock);
	ret = s->ops->create(&o, err, &s->tp);
	pthread_mutex_unlock(&s->tp_lock);
	return ret;
}

void rji_session_destroy_transport(struct rj_session *s)
{
	pthread_mutex_lock(&s->tp_lock);
	s->registered = false;
	if (s->tp) {
		s->ops->dereg_all(s->tp);
		s->ops->destroy(&s->tp);
	}
	pthread_mutex_unlock(&s->tp_lock);
}

static int register_all(struct rj_session *s, void *arg, struct rj_error *err)
{
	(void)arg;
	for (uint32_t i = 0; i < s->n_given; i++) {
		struct rji_memory m = { .region = i,
					.name = s->given[i].name,
					.host = s->given[i].r.host,
					.len_bytes = s->given[i].r.len_bytes };
		int ret;

		pthread_mutex_lock(&s->tp_lock);
		ret = s->ops->reg(s->tp, &m, &s->fig.registered_bytes, err);
		pthread_mutex_unlock(&s->tp_lock);
		if (ret < 0)
			return rji_fail(err, ret, "cannot register region '%s'", m.name);
	}
	pthread_mutex_lock(&s->tp_lock);
	s->registered = true;
	pthread_mutex_unlock(&s->tp_lock);
	return 0;
}

int rji_session_register(struct rj_session *s, struct rj_error *err)
{
	uint64_t start = rji_now_ns();
	int ret = rji_session_aside(s, "rj-regions", RJI_WAIT_MIGRATING, register_all, NULL, err);

	s->fig.register_ns = rji_now_ns() - start;
	return ret;
}

void rji_session_publish_terms(_Atomic uint64_t *to, const struct rji_terms *t)
{
	for (int i = 0; i < RJI_N_TERMS; i++)
		atomic_store_explicit(&to[i], t->ns[i], memory_order_relaxed);
}

uint64_t rji_session_features(const struct rj_session *s)
{
	uint64_t features = RJI_FEATURE_LOAD_ROLLBACK | RJI_FEATURE_WINDOWS | RJI_FEATURE_CODED;

	if (s->ops->cut && !s->o.lane_fds) /* descriptors handed in are used once */
		features |= RJI_FEATURE_LANES_RESET;
	return features;
}

void rji_session_count_cpu(struct rj_session *s)
{
	atomic_store_explicit(&s->fig.cpu_ns, rji_thread_cpu_ns(), memory_order_relaxed);
}
