/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include <criterion/criterion.h>

#include "base/host.h"

static char lines[4][1100];
static int n_lines;
static enum rj_log_level last_level;

static void keep(void *arg, enum rj_log_level level, const char *line)
{
	cr_assert_eq(arg, &n_lines);
	last_level = level;
	strncpy(lines[n_lines++ % 4], line, sizeof(lines[0]) - 1);
}

Test(host, logs_what_the_level_lets_through)
{
	struct rji_host host = { .log = keep, .arg = &n_lines, .log_level = RJ_LOG_WARN };

	rji_log(&host, RJ_LOG_ERROR, "qp 0x%x", 0x1f);
	cr_assert_eq(last_level, RJ_LOG_ERROR);
	rji_log(&host, RJ_LOG_WARN, "two");
	rji_log(&host, RJ_LOG_INFO, "three");
	cr_assert_eq(n_lines, 2);
	cr_assert_str_eq(lines[0], "qp 0x1f");
	cr_assert_str_eq(lines[1], "two");
}

Test(host, long_lines_are_cut)
{
	struct rji_host host = { .log = keep, .arg = &n_lines, .log_level = RJ_LOG_DEBUG };

	rji_log(&host, RJ_LOG_INFO, "%2000d", 1);
	cr_assert_eq(strlen(lines[0]), 1023);
}

Test(host, nowhere_to_log_is_fine)
{
	struct rji_host host = { .log_level = RJ_LOG_DEBUG };

	rji_log(NULL, RJ_LOG_ERROR, "x");
	rji_log(&host, RJ_LOG_ERROR, "x");
}

/* What a thread found out about itself. */
struct seen {
	char name[16];
	sigset_t blocked;
};

static void *look(void *arg)
{
	struct seen *seen = arg;

	pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
	pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
	return seen;
}

static void start_and_look(const struct rji_host *host, const char *role, struct seen *seen)
{
	pthread_t t;
	void *ret;

	memset(seen, 0, sizeof(*seen));
	cr_assert_eq(rji_thread_start(host, role, look, seen, &t), 0);
	cr_assert_eq(pthread_join(t, &ret), 0);
	cr_assert_eq(ret, seen);
}

Test(host, threads_have_names_and_take_no_signals)
{
	sigset_t before, after;
	struct seen seen;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	start_and_look(NULL, "rj-lane-3", &seen);
	cr_assert_str_eq(seen.name, "rj-lane-3");
	cr_assert(sigismember(&seen.blocked, SIGTERM));
	cr_assert(sigismember(&seen.blocked, SIGALRM));
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	cr_assert_eq(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM),
		     "the caller's mask stays");
}

Test(host, names_are_cut_to_what_the_kernel_takes)
{
	struct seen seen;

	start_and_look(NULL, "rj-a-very-long-name", &seen);
	cr_assert_str_eq(seen.name, "rj-a-very-long-");
}

static char spawned_role[32];

static int spawn(void *arg, const char *role, void *(*fn)(void *), void *fn_arg, pthread_t *t_p)
{
	cr_assert_eq(arg, spawned_role);
	strcpy(spawned_role, role);
	return -pthread_create(t_p, NULL, fn, fn_arg);
}

static int spawn_refused(void *arg, const char *role, void *(*fn)(void *), void *fn_arg,
			 pthread_t *t_p)
{
	return -EAGAIN;
}

Test(host, spawn_hook_makes_the_threads)
{
	struct rji_host host = { .spawn = spawn, .arg = spawned_role };
	struct seen seen;

	start_and_look(&host, "rj-control", &seen);
	cr_assert_str_eq(spawned_role, "rj-control");
	cr_assert_str_eq(seen.name, "rj-control", "also when the hook does not name it");
}

Test(host, hook_that_refuses_leaves_nothing_behind)
{
	struct rji_host host = { .spawn = spawn_refused };
	pthread_t untouched, t;

	memset(&untouched, 0x5a, sizeof(untouched));
	t = untouched;
	cr_assert_eq(rji_thread_start(&host, "rj-x", look, NULL, &t), -EAGAIN);
	cr_assert(!memcmp(&t, &untouched, sizeof(t)));
}

static void *look_at_cpus(void *arg)
{
	cr_assert_eq(rji_cpus_of_thread(arg), 0);
	return NULL;
}

static struct rji_cpus first_cpu(void)
{
	struct rji_cpus may, one = { 0 };

	cr_assert_eq(rji_cpus_of_thread(&may), 0);
	rji_cpus_add(&one, rji_cpus_next(&may, 0));
	return one;
}

Test(host, threads_stay_on_the_hosts_cpus_also_those_of_the_hook)
{
	struct rji_cpus one = first_cpu(), seen;
	struct rji_host hosts[] = { { .cpus = &one },
				    { .cpus = &one, .spawn = spawn, .arg = spawned_role } };

	for (int i = 0; i < 2; i++) {
		pthread_t t;

		memset(&seen, 0, sizeof(seen));
		cr_assert_eq(rji_thread_start(&hosts[i], "rj-x", look_at_cpus, &seen, &t), 0);
		pthread_join(t, NULL);
		cr_assert(rji_cpus_equal(&seen, &one));
	}
}

static void *look_at_nice(void *arg)
{
	const struct rji_host *host = arg;

	rji_thread_give_way(host);
	return (void *)(intptr_t)getpriority(PRIO_PROCESS, 0);
}

Test(host, a_thread_gives_way_and_does_not_come_back)
{
	struct rji_host host = { .busy_nice = 7 };
	int before = getpriority(PRIO_PROCESS, 0);
	pthread_t t;
	void *seen;

	cr_assert_eq(rji_thread_start(&host, "rj-x", look_at_nice, &host, &t), 0);
	pthread_join(t, &seen);
	cr_assert_eq((intptr_t)seen, before > 7 ? before : 7);
	cr_assert_eq(getpriority(PRIO_PROCESS, 0), before, "the thread only, not the process");
	host.busy_nice = before - 1;
	cr_assert_eq((intptr_t)look_at_nice(&host), before);
}

Test(host, a_thread_may_be_kept_to_a_part)
{
	struct rji_cpus may, one = first_cpu(), seen = { 0 };
	struct rji_host host = { .cpus = &may };
	pthread_t t;

	cr_assert_eq(rji_cpus_of_thread(&may), 0);
	cr_assert_eq(rji_thread_start_on(&host, "rj-x", &one, look_at_cpus, &seen, &t), 0);
	pthread_join(t, NULL);
	cr_assert(rji_cpus_equal(&seen, &one));
}

/* A hook that leaves a thread one CPU: it does not get more, nor others. */
static int spawn_bound(void *arg, const char *role, void *(*fn)(void *), void *fn_arg,
		       pthread_t *t_p)
{
	pthread_attr_t attr;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(struct rji_cpus), arg);
	ret = pthread_create(t_p, &attr, fn, fn_arg);
	pthread_attr_destroy(&attr);
	return -ret;
}

Test(host, what_the_hook_left_a_thread_is_not_widened)
{
	struct rji_cpus may, one = first_cpu(), others, seen = { 0 };
	struct rji_host host = { .spawn = spawn_bound, .arg = &one };
	pthread_t t;

	cr_assert_eq(rji_cpus_of_thread(&may), 0);
	cr_assert_eq(rji_thread_start_on(&host, "rj-x", &may, look_at_cpus, &seen, &t), 0);
	pthread_join(t, NULL);
	cr_assert(rji_cpus_equal(&seen, &one));
	others = rji_cpus_without(&may, &one);
	if (rji_cpus_is_empty(&others))
		return; /* a machine of one CPU */
	cr_assert_eq(rji_thread_start_on(&host, "rj-x", &others, look_at_cpus, &seen, &t), 0);
	pthread_join(t, NULL);
	cr_assert(rji_cpus_equal(&seen, &one), "it stays, and says so");
}
