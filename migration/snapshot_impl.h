/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RJI_MIGRATION_SNAPSHOT_IMPL_H
#define RJI_MIGRATION_SNAPSHOT_IMPL_H

#include "migration/session_impl.h"

/*
 * A session whose peer is a file. A source goes through the same rounds and the same stop phase as any
 * other; instead of handing over it lets the guest go on and then makes the file valid. All in the
 * control thread.
 */

/* Open the file and put its writer behind the transport. */
int rji_snapshot_begin(struct rj_session *s, struct rj_error *err);

/* Device state, which goes into the file last; a rollback forgets it. */
int rji_snapshot_keep_state(struct rj_session *s, const void *p, size_t len_bytes,
			    struct rj_error *err);
int rji_snapshot_forget_state(struct rj_session *s); /* 0 */

/*
 * After a round: the guest dirties as fast as the disk takes it, and the downtime limit is not strict:
 * stop it and be done. False with a peer.
 */
bool rji_snapshot_must_stop(struct rj_session *s);
/* No rounds: the guest stands still from the beginning, for as long as it takes. */
static inline bool rji_is_saved_stopped(const struct rj_session *s)
{
	return s->o.file_flags & RJ_FILE_STOPPED && !rji_session_has_peer(s);
}

/* In place of rji_handover(): all pages are written. */
int rji_snapshot_finish(struct rj_session *s, const struct rji_handover *ho,
			enum rj_outcome *outcome_p, struct rj_error *err);
/* The end in any case; the lanes are closed. Without a commit nothing stays of the file. */
void rji_snapshot_end(struct rj_session *s);

/* The destination of a file: restore.c. */
void *rji_restore_thread(struct rj_session *s);

#endif
