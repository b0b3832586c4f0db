/* SPDX-License-Identifier: BSD-2-Clause */
/* What a person or a script changes while a migration runs, line by line on stdin. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/common/units.h"
#include "bench/migrate/migrate.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct rj_session *session; /* under the lock, and the guest; NULL: over */
static struct guest *its_guest;

static int set_number(enum rj_param param, const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	return *text && !*end ? rj_set(session, param, value) : -EINVAL;
}

static int set_rate(const char *text, bool of_guest)
{
	uint64_t rate = 0;

	if (strcmp(text, "none") && units_parse(text, &rate) < 0)
		return -EINVAL;
	if (!of_guest)
		return rj_set(session, RJ_PARAM_BANDWIDTH_BYTES_PER_S, rate);
	guest_set_rate(its_guest, rate);
	return 0;
}

/* With the lock. */
static int obey(const char *word, const char *value)
{
	if (!strcmp(word, "switchover") && !*value)
		return rj_set(session, RJ_PARAM_HOLD_SWITCHOVER, 0);
	if (!strcmp(word, "hold") && !*value)
		return rj_set(session, RJ_PARAM_HOLD_SWITCHOVER, 1);
	if (!strcmp(word, "bandwidth"))
		return set_rate(value, false);
	if (!strcmp(word, "load"))
		return set_rate(value, true);
	if (!strcmp(word, "max-downtime"))
		return set_number(RJ_PARAM_MAX_DOWNTIME_MS, value);
	if (strcmp(word, "cancel") || *value)
		return -EINVAL;
	rj_cancel(session);
	return 0;
}

static void take_line(char *line)
{
	char *value = line + strcspn(line, " \t\n");
	int ret;

	if (*value)
		*value++ = '\0';
	value += strspn(value, " \t");
	value[strcspn(value, " \t\n")] = '\0';
	pthread_mutex_lock(&lock);
	ret = session ? obey(line, value) : 0;
	pthread_mutex_unlock(&lock);
	if (ret < 0)
		fprintf(stderr, "ramjet-migrate: not understood: '%s%s%s'; there are %s\n", line,
			*value ? " " : "", value,
			"switchover, hold, bandwidth BYTES_PER_S|none, max-downtime MS, load BYTES_PER_S|none, cancel");
	else
		progress_say("command      %s%s%s", line, *value ? " " : "", value);
}

static void *read_lines(void *arg)
{
	char line[200];

	(void)arg;
	while (fgets(line, sizeof(line), stdin))
		take_line(line);
	return NULL;
}

void commands_from_stdin(struct rj_session *s, struct guest *g)
{
	static bool started;
	pthread_t thread;

	pthread_mutex_lock(&lock);
	session = s;
	its_guest = g;
	if (s && !started && !pthread_create(&thread, NULL, read_lines, NULL)) {
		started = true;
		pthread_detach(thread);
	}
	pthread_mutex_unlock(&lock);
}
