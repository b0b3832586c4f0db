/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "migration/env_impl.h"
#include "migration/placing.h"
#include "rdma/rdma.h"
#include "transport/uri.h"

#define RESOLVE_MS 2000

static void say(struct rj_plan *plan, const char *transport, const char *why)
{
	snprintf(plan->transport, sizeof(plan->transport), "%s", transport);
	snprintf(plan->why, sizeof(plan->why), "%s", why);
}

/* rdma:// and auto://, where a device decides. */
static int plan_route(const struct rj_env *env, const struct rji_uri *uri, struct rj_plan *plan,
		      struct rji_placement_input *in)
{
	bool asked_for = !strcmp(uri->scheme, "rdma");
	struct rji_rdma_route route;
	struct rj_error err;
	int ret;

	rji_error_init(&err);
	ret = rji_rdma_route(env->devices, uri->host, uri->port, RESOLVE_MS, &route, &err);
	if (ret < 0 && asked_for) {
		say(plan, "", err.text);
		return ret;
	}
	if (ret < 0) {
		say(plan, "tcp", "");
		snprintf(plan->why, sizeof(plan->why), "no RDMA: %.240s", err.text);
		return 0;
	}
	say(plan, "rdma", "");
	snprintf(plan->why, sizeof(plan->why), "RDMA device %s reaches %.100s%s", route.device,
		 uri->host[0] ? uri->host : "this machine's addresses",
		 route.software ? "; it is software RDMA, which shows the path, not the speed"
				: "");
	snprintf(plan->device, sizeof(plan->device), "%s", route.device);
	plan->software = route.software;
	in->cpu_touches_pages = route.software;
	in->n_rails = 1;
	rji_rail_of_route(env->topology, &route, &in->rail[0]);
	return 0;
}

int rj_plan(struct rj_env *env, const char *text, struct rj_plan *plan_p)
{
	struct rji_placement_input in = { .cpu_touches_pages = true };
	struct rj_plan plan = { .size = sizeof(plan) };
	struct rj_error err;
	struct rji_uri uri;
	int ret;

	if (!env || !text || !plan_p || plan_p->size != sizeof(plan))
		return -EINVAL;
	rji_error_init(&err);
	ret = rji_uri_parse(text, &uri, &err);
	if (ret < 0) {
		snprintf(plan_p->why, sizeof(plan_p->why), "%s", err.text);
		return ret;
	}
	in.topology = env->topology;
	in.cpus = env->topology->allowed;
	if (!strcmp(uri.scheme, "rdma") || !strcmp(uri.scheme, "auto"))
		ret = plan_route(env, &uri, &plan, &in);
	else
		say(&plan, uri.scheme, "the URI says so");
	plan.n_lanes = rji_place_n_lanes(&in);
	if (!ret)
		*plan_p = plan;
	else
		snprintf(plan_p->why, sizeof(plan_p->why), "%s", plan.why);
	return ret;
}
