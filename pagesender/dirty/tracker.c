/* SPDX-License-Identifier: BSD-2-Clause */
#include "pagesender/dirty/tracker_impl.h"

#include <errno.h>
#include <stdlib.h>

int rj_tracker_create(const struct rj_tracker_ops *ops, void *t, struct rj_tracker **tracker_p)
{
	struct rj_tracker *tracker;

	if (!ops || !tracker_p || ops->size != sizeof(*ops))
		return -EINVAL;
	if (!ops->attach || !ops->start || !ops->collect)
		return -EINVAL;
	tracker = malloc(sizeof(*tracker));
	if (!tracker)
		return -ENOMEM;
	tracker->ops = *ops;
	tracker->t = t;
	if (!tracker->ops.name)
		tracker->ops.name = "dirty tracker";
	*tracker_p = tracker;
	return 0;
}

void rj_tracker_destroy(struct rj_tracker **tracker_p)
{
	struct rj_tracker *tracker;

	if (!tracker_p || !*tracker_p)
		return;
	tracker = *tracker_p;
	*tracker_p = NULL;
	if (tracker->ops.destroy)
		tracker->ops.destroy(tracker->t);
	free(tracker);
}
