/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Saving to a file.
 *
 *   rounds ─► pause ─► last pages ─► device state ─► last fence ─┬─► resume ─► commit
 *                                                                └─► commit            (STAY_PAUSED)
 *
 * When the last fence is answered, the file holds the guest of that moment and no page of it is written
 * again: the guest may go on before the disk has synced. If the commit fails then, there is no
 * new snapshot, and the guest never noticed.
 */
#include "migration/snapshot_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "pagesender/dirty/tracker_impl.h"
#include "transport/file/snap_writer.h"

/* Rounds that leave about as much dirty as the best before them, until the guest is stopped all the same. */
#define STALLED_ROUNDS 3u

struct rji_snapshot {
	struct rji_snap_writer *writer;
	uint8_t *state;
	size_t state_bytes, state_capacity;
	uint64_t least_pending; /* after any round */
	uint32_t n_stalled;
	bool told_buffers; /* that the kernel refused */
};

/* May guest memory be registered, where that is asked for? A reason why not, or NULL. */
static const char *why_not_registered(const struct rj_session *s)
{
	const struct rji_snap_writer *w = s->snapshot->writer;
	uint32_t n_known = 0;

	for (uint32_t i = 0; i < s->n_trackers; i++) {
		if (rji_tracker_is_uffd_wp(s->trackers[i]))
			return "userfaultfd tracks its writes, and would take each registered page for written";
	}
	for (uint32_t i = 0; i < s->n_given; i++)
		n_known += w->memory[i].hole_fd >= 0;
	return n_known ? NULL
		       : "it is no shared tmpfs or memfd, so that its holes, which would become memory, are not known";
}

static void choose_buffers(struct rj_session *s)
{
	const char *why_not;

	if (s->o.registration != RJ_REGISTER_ALL)
		return;
	why_not = why_not_registered(s);
	s->snapshot->writer->registers = !why_not;
	if (why_not)
		rji_session_tell_warning(s, "guest memory is not registered: %s", why_not);
}

/* How it went so far; that the kernel refused is told once. */
static void tell_buffers(struct rj_session *s)
{
	struct rji_snapshot *snapshot = s->snapshot;
	const struct rji_file_buffers *b = &snapshot->writer->buffers;
	int refused = atomic_load_explicit(&b->refused, memory_order_relaxed);
	uint64_t bytes = atomic_load_explicit(&b->bytes, memory_order_relaxed);
	struct rlimit limit;

	atomic_store_explicit(&s->fig.registered_buffers, bytes && !refused, memory_order_relaxed);
	if (!refused || snapshot->told_buffers)
		return;
	snapshot->told_buffers = true;
	if ((refused == -ENOMEM || refused == -EPERM) && !getrlimit(RLIMIT_MEMLOCK, &limit) &&
	    limit.rlim_cur != RLIM_INFINITY)
		rji_session_tell_warning(
			s,
			"guest memory cannot be registered with io_uring: the limit of locked memory is %" PRIu64
			" bytes; raise it (ulimit -l, LimitMEMLOCK= of systemd) or give CAP_IPC_LOCK. It goes on without",
			(uint64_t)limit.rlim_cur);
	else
		rji_session_tell_warning(
			s,
			"guest memory cannot be registered with io_uring (%s); it goes on without",
			strerrordesc_np(-refused));
}

int rji_snapshot_begin(struct rj_session *s, struct rj_error *err)
{
	const struct rj_region *regions[RJ_MAX_REGIONS];
	struct rji_snapshot *snapshot = calloc(1, sizeof(*snapshot));
	int ret;

	if (!snapshot)
		return rji_fail(err, -ENOMEM, "no memory for a snapshot");
	snapshot->least_pending = UINT64_MAX;
	for (uint32_t i = 0; i < s->n_given; i++)
		regions[i] = &s->given[i].r;
	ret = rji_snap_writer_begin(&snapshot->writer, s->host, s->uri.file, regions, s->n_given,
				    s->blob_bytes, err);
	if (ret < 0) {
		free(snapshot);
		return ret;
	}
	s->snapshot = snapshot;
	s->transport_arg = snapshot->writer;
	s->fig.direct_io = snapshot->writer->direct_io;
	s->fig.file_metadata_bytes = rji_snap_writer_metadata_bytes(snapshot->writer);
	if (!snapshot->writer->direct_io)
		rji_session_tell_warning(s, "%s", snapshot->writer->why_not_direct);
	choose_buffers(s);
	return 0;
}

int rji_snapshot_keep_state(struct rj_session *s, const void *p, size_t len_bytes,
			    struct rj_error *err)
{
	struct rji_snapshot *snapshot = s->snapshot;
	size_t need = snapshot->state_bytes + len_bytes, capacity = snapshot->state_capacity;

	if (need > capacity) {
		uint8_t *bigger;

		capacity = capacity * 2 > need ? capacity * 2 : need;
		bigger = realloc(snapshot->state, capacity);
		if (!bigger)
			return rji_fail(err, -ENOMEM, "no memory for the device state");
		snapshot->state = bigger;
		snapshot->state_capacity = capacity;
	}
	memcpy(snapshot->state + snapshot->state_bytes, p, len_bytes);
	snapshot->state_bytes = need;
	return 0;
}

int rji_snapshot_forget_state(struct rj_session *s)
{
	s->snapshot->state_bytes = 0;
	return 0;
}

bool rji_snapshot_must_stop(struct rj_session *s)
{
	struct rji_snapshot *snapshot = s->snapshot;
	uint64_t pending = s->fig.pending_bytes;

	if (!snapshot)
		return false;
	tell_buffers(s);
	if (s->o.strict_downtime)
		return false;
	snapshot->n_stalled = pending > snapshot->least_pending / 10 * 9 ? snapshot->n_stalled + 1
									 : 0;
	if (pending < snapshot->least_pending)
		snapshot->least_pending = pending;
	if (snapshot->n_stalled < STALLED_ROUNDS)
		return false;
	rji_session_tell_warning(
		s,
		"the guest dirties its memory about as fast as the file takes it: it is paused now, for about %" PRIu64
		" ms instead of the %u ms wished for",
		s->fig.predicted_ns / RJI_NS_PER_MS, s->max_downtime_ms);
	return true;
}

static int commit(struct rj_session *s, void *arg, struct rj_error *err)
{
	return rji_snap_writer_commit(s->snapshot->writer, arg, err);
}

/* The figures of the pause, at its end. */
static void note_downtime(struct rj_session *s, const struct rji_handover *ho, uint64_t began_ns)
{
	uint64_t now = rji_now_ns(), total = now - ho->paused_at_ns, sum;

	ho->terms->ns[RJI_TERM_RESUME] = now - began_ns;
	sum = rji_terms_sum(ho->terms);
	ho->terms->ns[RJI_TERM_HANDOVER] = total > sum ? total - sum : 0;
	s->fig.downtime_ns = total;
	s->fig.resumed_at_ns = ho->paused_at_ns;
	rji_session_publish_terms(s->fig.downtime, ho->terms);
}

int rji_snapshot_finish(struct rj_session *s, const struct rji_handover *ho,
			enum rj_outcome *outcome_p, struct rj_error *err)
{
	struct rji_snapshot *snapshot = s->snapshot;
	bool stay = s->o.file_flags & RJ_FILE_STAY_PAUSED;
	struct rji_snap_rest rest = { .setup = s->blob,
				      .setup_bytes = s->blob_bytes,
				      .state = snapshot->state,
				      .state_bytes = snapshot->state_bytes,
				      .run = ho->was_running };
	uint64_t began = rji_now_ns();
	int ret;

	*outcome_p = RJ_RUNS_AT_SOURCE;
	tell_buffers(s);
	memcpy(rest.id, s->session_id, sizeof(rest.id));
	if (!stay) {
		rji_give_back(s, false, ho->was_running);
		note_downtime(s, ho, began);
	}
	rji_session_set_state(s, RJ_STATE_COMMITTED);
	/* Not to be cancelled: it ends soon, and half of it is nothing. */
	ret = rji_session_aside(s, "rj-commit", 0, commit, &rest, err);
	if (stay && ret < 0)
		rji_give_back(s, false, ho->was_running);
	if (stay)
		note_downtime(s, ho, began);
	if (stay && !ret)
		*outcome_p = RJ_RUNS_AT_DESTINATION;
	return ret;
}

void rji_snapshot_end(struct rj_session *s)
{
	struct rji_snapshot *snapshot = s->snapshot;

	if (!snapshot)
		return;
	s->snapshot = NULL;
	rji_snap_writer_end(&snapshot->writer);
	free(snapshot->state);
	free(snapshot);
}
