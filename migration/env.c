/* SPDX-License-Identifier: BSD-2-Clause */
#include "migration/env_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rdma/rdma.h"

void rj_env_opts_init(struct rj_env_opts *o)
{
	*o = (struct rj_env_opts){ .size = sizeof(*o), .log_level = RJ_LOG_INFO };
}

int rj_env_open(const struct rj_env_opts *o, struct rj_env **env_p)
{
	struct rj_env_opts defaults;
	struct rj_env *env;
	struct rj_error err;
	int ret;

	if (!o) {
		rj_env_opts_init(&defaults);
		o = &defaults;
	}
	if (o->size != sizeof(*o) || !env_p)
		return -EINVAL;
	env = calloc(1, sizeof(*env));
	if (!env)
		return -ENOMEM;
	env->host = (struct rji_host){
		.log = o->log, .spawn = o->spawn, .arg = o->arg, .log_level = o->log_level
	};
	if (o->devices && *o->devices) {
		env->devices = strdup(o->devices);
		if (!env->devices) {
			free(env);
			return -ENOMEM;
		}
	}
	rji_error_init(&err);
	ret = rji_topology_create(NULL, &env->topology, &err);
	if (!ret)
		ret = rji_rdma_open_devices(env->devices, &err);
	if (ret < 0) {
		rji_log(&env->host, RJ_LOG_ERROR, "%s", err.text);
		rj_env_close(&env);
		return ret;
	}
	*env_p = env;
	return 0;
}

void rj_env_close(struct rj_env **env_p)
{
	if (!env_p || !*env_p)
		return;
	rji_topology_destroy(&(*env_p)->topology);
	free((*env_p)->devices);
	free(*env_p);
	*env_p = NULL;
}
