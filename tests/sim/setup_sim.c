/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the two sides must agree on and what they do not: regions, transports, versions. Strangers
 * on the port. Whose question for the outcome is answered.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "migration/session_impl.h"
#include "tests/support/sim_cases.h"
#include "transport/greeting.h"

#define MAX_STRANGERS 20

static _Alignas(65536) char spare_memory[2][65536];

/* --- mismatches --- */

static void add_spare(struct rj_session *s, const char *name, char *memory, uint32_t page_bytes)
{
	struct rj_region r;
	int ret;

	rj_region_init(&r);
	r.name = name;
	r.host = memory;
	r.len_bytes = 65536;
	r.page_bytes = page_bytes;
	ret = rj_add_region(s, &r, NULL);
	assert(!ret);
}

/* Smaller than any region of a guest by seed is long. */
static void give_short(void *arg, struct rj_session *s, enum sim_side side)
{
	if (side == SIM_DESTINATION)
		add_spare(s, "ram0", spare_memory[0], 4096);
}

static void give_one_more(void *arg, struct rj_session *s, enum sim_side side)
{
	if (side == SIM_DESTINATION)
		add_spare(s, "surplus", spare_memory[1], 4096);
}

static void use_other_transport(void *arg, struct rj_session *s, enum sim_side side)
{
	static struct rji_transport_ops other;

	other = sim_transport;
	other.name = "other";
	if (side == SIM_DESTINATION)
		rji_session_use_transport(s, &other, s->transport_arg);
}

static char *mismatch(const struct sim_case *c)
{
	static const struct {
		void (*opened)(void *arg, struct rj_session *s, enum sim_side side);
		const char *word;
		int status;
	} kinds[] = {
		{ give_short, "'ram0'", RJ_E_REGION },
		{ give_one_more, "'surplus'", RJ_E_REGION },
		{ use_other_transport, "other", RJ_E_REFUSED },
	};
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.regions_before = false;
	plan.opened = kinds[c->number].opened;
	text = sim_try(&plan, SIM_STAYS, false, &r);
	if (!text && r.status[SIM_DESTINATION] != kinds[c->number].status)
		text = sim_say("the destination ended with %d: %s", r.status[1], r.error[1].text);
	for (int side = 0; !text && side < 2; side++) {
		if (!strstr(r.error[side].text, kinds[c->number].word))
			text = sim_say("nothing about %s in: %s", kinds[c->number].word,
				       r.error[side].text);
	}
	return text;
}

/* The same length, other pages. */
static char *other_page_size(const struct sim_case *c)
{
	struct sim_guest *guest = sim_guest_create_empty(c->seed), *arrived;
	struct sim_report r;
	struct sim_plan plan;
	char *text = NULL;

	sim_guest_add_region(guest, "ram0", 65536, 16384, 0, false, false);
	sim_guest_resume(guest);
	sim_plan_init(&plan, c->seed);
	plan.regions_before = false;
	plan.opened = give_short;
	sim_migrate(guest, &plan, &r, &arrived);
	if (r.complaint[0] || r.status[SIM_DESTINATION] != RJ_E_REGION ||
	    !strstr(r.error[1].text, "16384"))
		text = sim_say("%s: %d, %s", r.complaint, r.status[1], r.error[1].text);
	sim_guest_destroy(&guest);
	return text;
}

/* --- what cannot be tracked --- */

static void add_untracked(void *arg, struct rj_session *s, enum sim_side side)
{
	if (side == SIM_SOURCE)
		add_spare(s, "nobody's", spare_memory[1], 4096);
}

static void add_blocker(void *arg, struct rj_session *s, enum sim_side side)
{
	if (side == SIM_SOURCE)
		rj_add_blocker(s, "the device nobody's cannot be migrated");
}

static char *untracked(const struct sim_case *c)
{
	struct sim_guest *guest = sim_guest_create(c->seed), *arrived;
	struct sim_report r;
	struct sim_plan plan;
	char *text = NULL;

	sim_plan_init(&plan, c->seed);
	plan.opened = c->number ? add_blocker : add_untracked;
	sim_migrate(guest, &plan, &r, &arrived);
	if (r.start_status != RJ_E_UNTRACKED || !strstr(r.error[SIM_SOURCE].text, "nobody's"))
		text = sim_say("the start returned %d: %s", r.start_status,
			       r.error[SIM_SOURCE].text);
	sim_guest_destroy(&arrived);
	sim_guest_destroy(&guest);
	return text;
}

/* --- strangers --- */

struct strangers {
	uint32_t n;
	int fd[MAX_STRANGERS];
	uint8_t answer[1024];
	ssize_t n_answer;
};

static int call(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int ret = connect(fd, (struct sockaddr *)&to, sizeof(to));

	assert(!ret);
	return fd;
}

static void say_bytes(int fd, const void *p, size_t n)
{
	ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

	assert(done == (ssize_t)n);
}

/* Until it is closed. */
static ssize_t hear_all(int fd, uint8_t *buf, size_t size)
{
	size_t n = 0;
	ssize_t got;

	while (n < size && (got = recv(fd, buf + n, size - n, 0)) > 0)
		n += (size_t)got;
	return (ssize_t)n;
}

static void call_with_garbage(void *arg, uint16_t port)
{
	struct strangers *s = arg;
	static const char request[] = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";

	s->fd[s->n++] = call(port);
	say_bytes(s->fd[0], request, sizeof(request) - 1);
	s->n_answer = hear_all(s->fd[0], s->answer, sizeof(s->answer));
}

static void call_in_silence(void *arg, uint16_t port)
{
	struct strangers *s = arg;

	while (s->n < 6)
		s->fd[s->n++] = call(port);
	say_bytes(s->fd[0], "RAMJET\r\n", 8);
}

static void call_as_a_future_version(void *arg, uint16_t port)
{
	struct strangers *s = arg;
	struct rji_greeting g = { .major = RJI_PROTOCOL_MAJOR + 1, .kind = RJI_GREET_CONTROL };
	uint8_t bytes[RJI_GREETING_BYTES];

	rji_greeting_encode(&g, bytes);
	s->fd[s->n++] = call(port);
	say_bytes(s->fd[0], bytes, sizeof(bytes));
	s->n_answer = hear_all(s->fd[0], s->answer, sizeof(s->answer));
}

static char *check_version_answer(const struct strangers *s)
{
	struct rji_msg_failed failed;
	struct rji_cursor c;
	uint16_t type;
	uint32_t len;

	if (s->n_answer < RJI_MSG_HEAD_BYTES ||
	    rji_msg_decode_head(s->answer, &type, &len, NULL) < 0 || type != RJI_MSG_FAILED)
		return sim_say("no FAILED came: %zd bytes", s->n_answer);
	rji_cursor_init_const(&c, s->answer + RJI_MSG_HEAD_BYTES, len);
	if (rji_get_failed(&c, &failed) < 0 || failed.code != RJ_E_VERSION)
		return sim_say("it failed with %d: %s", failed.code, failed.text);
	return NULL;
}

static char *strangers(const struct sim_case *c)
{
	static void (*const calls[])(void *, uint16_t) = { call_with_garbage, call_in_silence,
							   call_as_a_future_version };
	struct strangers s = { 0 };
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.arg = &s;
	plan.listening = calls[c->number];
	text = sim_try(&plan, SIM_MOVES, false, &r);
	if (!text && c->number == 0 && s.n_answer)
		text = sim_say("garbage was answered by %zd bytes", s.n_answer);
	if (!text && c->number == 2)
		text = check_version_answer(&s);
	while (s.n)
		close(s.fd[--s.n]);
	return text;
}

/* --- who may ask for the outcome --- */

struct asker {
	struct strangers strangers;
	uint16_t port;
	bool right_secret;
	uint8_t session_id[RJI_SESSION_ID_BYTES], secret[RJI_SECRET_BYTES];
};

static void note_port(void *arg, uint16_t port)
{
	((struct asker *)arg)->port = port;
}

/* What a bystander could have read off the network, but for the secret. */
static void overhear(void *arg, struct sim_migration *m, enum sim_side side,
		     const struct rj_event *ev)
{
	struct asker *a = arg;

	if (side != SIM_SOURCE || ev->type != RJ_RQ_RELEASE)
		return;
	memcpy(a->session_id, m->host[side].s->session_id, sizeof(a->session_id));
	memcpy(a->secret, m->host[side].s->secret, sizeof(a->secret));
}

/* COMMIT is about to be lost: ask before the source does. */
static void ask(void *arg)
{
	struct asker *a = arg;
	struct rji_greeting g = { .major = RJI_PROTOCOL_MAJOR, .kind = RJI_GREET_ASK };
	uint8_t bytes[RJI_GREETING_BYTES];

	memcpy(g.session_id, a->session_id, sizeof(g.session_id));
	memcpy(g.token, a->secret, sizeof(g.token));
	g.token[RJI_TOKEN_BYTES - 1] ^= !a->right_secret;
	rji_greeting_encode(&g, bytes);
	a->strangers.fd[a->strangers.n++] = call(a->port);
	say_bytes(a->strangers.fd[0], bytes, sizeof(bytes));
}

static char *question(const struct sim_case *c)
{
	struct asker a = { .right_secret = c->number };
	struct sim_report r;
	struct sim_plan plan;
	char *text;
	ssize_t n;

	sim_plan_init(&plan, c->seed);
	plan.arg = &a;
	plan.listening = note_port;
	plan.before_event = overhear;
	plan.rule = (struct sim_rule){ .cut = SIM_CUT_BEFORE,
				       .direction = SIM_TO_DESTINATION,
				       .type = RJI_MSG_COMMIT,
				       .nth = 1,
				       .no_answers = true,
				       .fired = ask,
				       .arg = &a };
	/* The source itself gets no answer. */
	text = sim_try(&plan, SIM_UNKNOWN, false, &r);
	n = hear_all(a.strangers.fd[0], a.strangers.answer, sizeof(a.strangers.answer));
	if (!text && (n > 0) != a.right_secret)
		text = sim_say("with a %s secret %zd bytes came",
			       a.right_secret ? "right" : "wrong", n);
	close(a.strangers.fd[0]);
	return text;
}

/* --- more than one migration --- */

static char *chain(const struct sim_case *c)
{
	struct sim_guest *guest = sim_guest_create(c->seed);
	char *text = NULL;

	for (uint64_t hop = 0; !text && hop < 4; hop++) {
		struct sim_guest *arrived;
		struct sim_report r;
		struct sim_plan plan;

		sim_plan_init(&plan, c->seed + hop * 77);
		sim_migrate(guest, &plan, &r, &arrived);
		if (r.complaint[0] || !arrived)
			text = sim_say("hop %llu: %s (%s)", (unsigned long long)hop, r.complaint,
				       r.error[0].text);
		sim_guest_destroy(&guest);
		guest = arrived;
		if (guest) {
			atomic_store(&guest->budget, 300);
			sim_guest_step(guest, 300);
		}
	}
	sim_guest_destroy(&guest);
	return text;
}

/* --- limits --- */

/* The network stands still from the pause until the guest goes on at the source. */
static void stall_the_stop(void *arg, struct sim_migration *m, enum sim_side side,
			   const struct rj_event *ev)
{
	uint32_t *n_rolled_back = arg;

	if (side != SIM_SOURCE)
		return;
	if (ev->type == RJ_RQ_PAUSE && !*n_rolled_back)
		sim_world_stall(m->world, true);
	if (ev->type == RJ_RQ_RESUME) {
		++*n_rolled_back;
		sim_world_stall(m->world, false);
	}
}

static char *roll_back(const struct sim_case *c)
{
	uint32_t n_rolled_back = 0;
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.rounds = 2;
	plan.state_bytes = 5000;
	plan.save_dirties = 20;
	plan.strict = true;
	plan.max_downtime_ms = 3000;
	plan.arg = &n_rolled_back;
	plan.before_event = stall_the_stop;
	text = sim_try(&plan, SIM_MOVES, false, &r);
	if (!text && !n_rolled_back)
		text = sim_say("it was not rolled back");
	return text;
}

/* The first load takes longer than the guest may stand, or the release that comes after it. */
struct slow {
	enum rj_event_type at;
	uint32_t n;
	uint64_t paused_ns, stood_ns; /* until the guest went on at the source */
};

static void be_slow(void *arg, struct sim_migration *m, enum sim_side side,
		    const struct rj_event *ev)
{
	const struct timespec late = { .tv_nsec = 700000000 };
	struct slow *slow = arg;

	(void)m;
	if (side == SIM_SOURCE && ev->type == RJ_RQ_PAUSE)
		slow->paused_ns = rji_now_ns();
	if (side == SIM_SOURCE && ev->type == RJ_RQ_RESUME && !slow->stood_ns)
		slow->stood_ns = rji_now_ns() - slow->paused_ns;
	if (ev->type == slow->at && !slow->n++)
		nanosleep(&late, NULL);
}

static char *roll_back_load(const struct sim_case *c)
{
	struct slow slow = { .at = c->number & 1 ? RJ_RQ_RELEASE : RJ_RQ_LOAD };
	bool can_reset = !(c->number & 2);
	struct sim_report r;
	struct sim_plan plan;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.rounds = 2;
	plan.state_bytes = 5000;
	plan.save_dirties = 20;
	plan.load_dirties = 40;
	plan.guest_units = 3072; /* it does not write over all of these by chance */
	plan.writes = 200;
	plan.no_reset = !can_reset;
	if (c->number & 4) {
		plan.filters = RJ_FILTER_ALL;
		plan.copy_always = true;
		plan.zeroed = true;
	}
	plan.strict = true;
	plan.max_downtime_ms = 600;
	plan.arg = &slow;
	plan.before_event = be_slow;
	text = sim_try(&plan, can_reset ? SIM_MOVES : SIM_STAYS, false, &r);
	if (!text && !r.stats[SIM_SOURCE].rollbacks)
		text = sim_say("it was not rolled back");
	if (!text && slow.at == RJ_RQ_LOAD) /* else it is the source's VMM itself that is late */
		text = sim_judge_stop(slow.stood_ns, plan.max_downtime_ms);
	if (!text && !can_reset && r.status[SIM_SOURCE] != RJ_E_DOWNTIME)
		text = sim_say("the source ended with %d: %s", r.status[0], r.error[0].text);
	return text;
}

static void never_converge(struct sim_plan *plan)
{
	plan->rounds = 1000000;
	plan->timeout_ms = 500;
}

static void stop_anyway(struct sim_plan *plan)
{
	never_converge(plan);
	plan->strict = true;
	plan->stop_anyway = true;
}

/*
 * More device state than fits into the buffers, and then the connection is lost: the VMM must not
 * wait for long.
 */
static char *lost_while_saving(const struct sim_case *c)
{
	struct sim_report r;
	struct sim_plan plan;
	uint64_t began;
	char *text;

	sim_plan_init(&plan, c->seed);
	plan.state_bytes = 24 << 20;
	plan.rule = (struct sim_rule){ .cut = SIM_CUT_BEFORE,
				       .direction = SIM_TO_DESTINATION,
				       .type = RJI_MSG_STATE,
				       .nth = 1 };
	began = rji_now_ns();
	text = sim_try(&plan, SIM_STAYS, false, &r);
	if (!text && rji_now_ns() - began > 15 * RJI_NS_PER_S)
		text = sim_say("the guest stood for the whole time that save is allowed");
	return text;
}

static struct sim_case *add(struct sim_cases *cases, const char *name,
			    char *(*run)(const struct sim_case *), uint32_t number)
{
	struct sim_case *c = sim_add(cases, "%s", name);

	c->run = run;
	c->number = number;
	return c;
}

int main(int argc, char **argv)
{
	struct sim_cases cases = { 0 };
	struct sim_case *c;

	add(&cases, "a region of another length", mismatch, 0);
	add(&cases, "a region too many", mismatch, 1);
	add(&cases, "another transport", mismatch, 2);
	add(&cases, "another page size", other_page_size, 0);
	add(&cases, "a region nobody tracks", untracked, 0);
	add(&cases, "a device that cannot be tracked", untracked, 1);
	add(&cases, "garbage on the port", strangers, 0);
	add(&cases, "silence on the port", strangers, 1);
	add(&cases, "a future version on the port", strangers, 2);
	add(&cases, "a wrong secret", question, 0);
	add(&cases, "the right secret", question, 1);
	add(&cases, "from host to host", chain, 0);
	add(&cases, "rolled back", roll_back, 0);
	add(&cases, "rolled back, load is slow", roll_back_load, 0);
	add(&cases, "rolled back, with filters", roll_back_load, 4);
	add(&cases, "rolled back, release is slow", roll_back_load, 1);
	add(&cases, "load is slow and cannot be undone", roll_back_load, 2);
	add(&cases, "release is slow and load cannot be undone", roll_back_load, 3);
	add(&cases, "lost while saving", lost_while_saving, 0);
	c = sim_add(&cases, "does not converge in time");
	c->adjust = never_converge;
	c->may_end = SIM_STAYS;
	c->status[SIM_SOURCE] = RJ_E_CANCELLED;
	c = sim_add(&cases, "does not converge, and is stopped anyway");
	c->adjust = stop_anyway;
	c->may_end = SIM_MOVES;
	c = sim_add(&cases, "memory not given though the VMM says so");
	c->plan.mischief[SIM_DESTINATION] =
		(struct sim_mischief){ .act = SIM_LIE, .at = RJ_RQ_REGION };
	c->may_end = SIM_STAYS | SIM_MOVES;
	return sim_run(&cases, argc, argv);
}
