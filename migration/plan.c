/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/plan.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "migration/env_impl.h"
#include "rdma/rdma.h"
#include "transport/uri.h"

#define RESOLVE_MS 2000

uint32_t rji_default_lanes(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (cpus <= 2)
		return 2;
	return cpus >= 16 ? 8 : (uint32_t)cpus / 2;
}

static void say(struct rj_plan *plan, const char *transport, const char *why)
{
	snprintf(plan->transport, sizeof(plan->transport), "%s", transport);
	snprintf(plan->why, sizeof(plan->why), "%s", why);
}

/* rdma:// and auto://, where a device decides. */
static int plan_route(const struct rj_env *env, const struct rji_uri *uri, struct rj_plan *plan)
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
	return 0;
}

int rj_plan(struct rj_env *env, const char *text, struct rj_plan *plan_p)
{
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
	plan.n_lanes = rji_default_lanes();
	if (!strcmp(uri.scheme, "rdma") || !strcmp(uri.scheme, "auto"))
		ret = plan_route(env, &uri, &plan);
	else
		say(&plan, uri.scheme, "the URI says so");
	if (!ret)
		*plan_p = plan;
	else
		snprintf(plan_p->why, sizeof(plan_p->why), "%s", plan.why);
	return ret;
}
