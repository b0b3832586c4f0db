/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <criterion/criterion.h>

#include "base/clock.h"
#include "migration/vmm.h"

/* The linker sends this program's malloc() here (-Wl,--wrap): so it can fail. */
void *__real_malloc(size_t len_bytes);
void *__wrap_malloc(size_t len_bytes);
static bool no_memory;

void *__wrap_malloc(size_t len_bytes)
{
	return no_memory ? NULL : __real_malloc(len_bytes);
}

static struct rji_vmm vmm;
static int wake_fd;

static void set_up(void)
{
	wake_fd = eventfd(0, EFD_NONBLOCK);
	cr_assert_eq(rji_vmm_init(&vmm, wake_fd), 0);
}

static void tear_down(void)
{
	rji_vmm_fini(&vmm);
	close(wake_fd);
}

TestSuite(vmm, .init = set_up, .fini = tear_down);

static void tell_state(enum rj_state state)
{
	struct rj_event ev = { .type = RJ_EV_STATE, .u.state.state = state };

	rji_vmm_tell(&vmm, &ev);
}

static uint64_t ask(enum rj_event_type type)
{
	struct rj_event ev = { .type = type };

	return rji_vmm_ask(&vmm, &ev);
}

static int next(struct rj_event *ev)
{
	ev->size = sizeof(*ev);
	return rji_vmm_next(&vmm, ev);
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

Test(vmm, events_come_in_the_order_they_happened)
{
	struct rj_event ev;
	uint64_t id;

	tell_state(RJ_STATE_SETUP);
	id = ask(RJ_RQ_PAUSE);
	tell_state(RJ_STATE_STOPPING);
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.size, sizeof(ev));
	cr_assert_eq(ev.u.state.state, RJ_STATE_SETUP);
	cr_assert_eq(ev.request, 0);
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.type, RJ_RQ_PAUSE);
	cr_assert_eq(ev.request, id);
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.u.state.state, RJ_STATE_STOPPING);
	cr_assert_eq(next(&ev), 0);
}

Test(vmm, descriptor_is_readable_while_an_event_waits)
{
	struct rj_event ev;

	cr_assert_not(readable(vmm.event_fd));
	tell_state(RJ_STATE_SETUP);
	tell_state(RJ_STATE_BULK);
	cr_assert(readable(vmm.event_fd));
	next(&ev);
	cr_assert(readable(vmm.event_fd));
	next(&ev);
	cr_assert_not(readable(vmm.event_fd));
}

Test(vmm, event_of_another_size_is_refused)
{
	struct rj_event ev = { .size = 8 };

	tell_state(RJ_STATE_SETUP);
	cr_assert_eq(rji_vmm_next(&vmm, &ev), -EINVAL);
	cr_assert_eq(next(&ev), 1, "and not lost");
}

Test(vmm, request_is_answered_once)
{
	uint64_t id = ask(RJ_RQ_SAVE);
	int status = 77;

	cr_assert_neq(id, 0);
	cr_assert_not(rji_vmm_answered(&vmm, id, &status));
	cr_assert_eq(status, 77);
	cr_assert_not(readable(wake_fd));
	cr_assert_eq(rji_vmm_answer(&vmm, id, -5), 0);
	cr_assert(readable(wake_fd));
	cr_assert_eq(rji_vmm_answer(&vmm, id, 0), -ENOENT);
	cr_assert(rji_vmm_answered(&vmm, id, &status));
	cr_assert_eq(status, -5);
	cr_assert_not(rji_vmm_answered(&vmm, id, &status), "told once");
	cr_assert_eq(rji_vmm_answer(&vmm, id, 0), -ENOENT);
}

Test(vmm, answers_to_nothing_find_nothing)
{
	uint64_t id = ask(RJ_RQ_SAVE);

	cr_assert_eq(rji_vmm_answer(&vmm, 0, 0), -ENOENT);
	cr_assert_eq(rji_vmm_answer(&vmm, id + 1, 0), -ENOENT);
	cr_assert_eq(rji_vmm_answer(&vmm, UINT64_MAX, 0), -ENOENT);
	cr_assert_not(readable(wake_fd));
}

Test(vmm, several_requests_are_told_apart)
{
	uint64_t a = ask(RJ_RQ_SAVE), b = ask(RJ_RQ_PAUSE);
	int status;

	cr_assert_neq(a, b);
	cr_assert_eq(rji_vmm_answer(&vmm, b, 2), 0);
	cr_assert_not(rji_vmm_answered(&vmm, a, &status));
	cr_assert(rji_vmm_answered(&vmm, b, &status));
	cr_assert_eq(status, 2);
	cr_assert(rji_vmm_is_asking(&vmm, RJ_RQ_SAVE));
	cr_assert_not(rji_vmm_is_asking(&vmm, RJ_RQ_PAUSE));
}

Test(vmm, asking_ends_with_the_answer)
{
	uint64_t id = ask(RJ_RQ_SETUP);

	cr_assert(rji_vmm_is_asking(&vmm, RJ_RQ_SETUP));
	rji_vmm_answer(&vmm, id, 0);
	cr_assert_not(rji_vmm_is_asking(&vmm, RJ_RQ_SETUP));
}

Test(vmm, withdrawn_request_is_gone_though_it_was_fetched)
{
	uint64_t id = ask(RJ_RQ_LOAD);
	struct rj_event ev;

	next(&ev);
	rji_vmm_withdraw(&vmm, id);
	cr_assert_eq(rji_vmm_answer(&vmm, id, 0), -ENOENT);
	cr_assert_not(rji_vmm_is_asking(&vmm, RJ_RQ_LOAD));
}

Test(vmm, withdrawn_request_is_not_handed_out_any_more)
{
	uint64_t first = ask(RJ_RQ_LOAD), middle, last;
	struct rj_event ev;

	tell_state(RJ_STATE_BULK);
	middle = ask(RJ_RQ_SAVE);
	last = ask(RJ_RQ_PAUSE);
	rji_vmm_withdraw(&vmm, last);
	rji_vmm_withdraw(&vmm, first);
	rji_vmm_withdraw(&vmm, last);
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.type, RJ_EV_STATE);
	tell_state(RJ_STATE_DIRTY);
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.request, middle);
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.u.state.state, RJ_STATE_DIRTY);
	cr_assert_eq(next(&ev), 0);
}

Test(vmm, withdrawing_the_only_event_leaves_nothing_readable)
{
	rji_vmm_withdraw(&vmm, ask(RJ_RQ_LOAD));
	cr_assert_not(readable(vmm.event_fd));
}

Test(vmm, more_requests_than_there_are_places_are_refused)
{
	struct rj_event ev = { .type = RJ_RQ_REGION, .request = 12345 };
	int n = 0;

	for (int i = 0; i < RJI_MAX_REQUESTS; i++)
		cr_assert_neq(ask(RJ_RQ_SAVE), 0);
	cr_assert_eq(rji_vmm_ask(&vmm, &ev), 0);
	ev.size = sizeof(ev);
	while (rji_vmm_next(&vmm, &ev))
		n++;
	cr_assert_eq(n, RJI_MAX_REQUESTS);
}

Test(vmm, slowest_answer_is_kept_with_its_type)
{
	uint64_t quick = ask(RJ_RQ_PAUSE), slow = ask(RJ_RQ_SAVE);

	vmm.requests[0].asked_ns -= 5 * RJI_NS_PER_MS;
	vmm.requests[1].asked_ns -= 1000 * RJI_NS_PER_S;
	rji_vmm_answer(&vmm, slow, 0);
	rji_vmm_answer(&vmm, quick, 0);
	cr_assert_geq(vmm.slowest_ns, 1000 * RJI_NS_PER_S);
	cr_assert_eq(vmm.slowest_type, RJ_RQ_SAVE);
}

Test(vmm, without_memory_requests_are_refused_and_other_news_is_lost)
{
	struct rj_event ev;

	no_memory = true;
	cr_assert_eq(ask(RJ_RQ_SAVE), 0);
	tell_state(RJ_STATE_BULK);
	no_memory = false;
	cr_assert_not(rji_vmm_is_asking(&vmm, RJ_RQ_SAVE));
	cr_assert_eq(next(&ev), 0);
	cr_assert_neq(ask(RJ_RQ_SAVE), 0);
}

static void tell_done_without_memory(void)
{
	struct rj_event ev = { .type = RJ_EV_DONE,
			       .u.done = { .status = RJ_E_LANE, .runs = RJ_RUNS_AT_SOURCE } };

	no_memory = true;
	rji_vmm_tell(&vmm, &ev);
	no_memory = false;
}

Test(vmm, done_is_told_without_memory)
{
	struct rj_event ev;

	tell_done_without_memory();
	cr_assert(readable(vmm.event_fd));
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.type, RJ_EV_DONE);
	cr_assert_eq(ev.size, sizeof(ev));
	cr_assert_eq(ev.u.done.status, RJ_E_LANE);
	cr_assert_eq(next(&ev), 0);
}

Test(vmm, done_is_the_last_event_without_memory_too)
{
	struct rj_event ev;

	tell_state(RJ_STATE_BULK);
	tell_state(RJ_STATE_FAILED);
	tell_done_without_memory();
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.u.state.state, RJ_STATE_BULK);
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.u.state.state, RJ_STATE_FAILED);
	cr_assert_eq(next(&ev), 1);
	cr_assert_eq(ev.type, RJ_EV_DONE);
	cr_assert_eq(next(&ev), 0);
}

Test(vmm, names_of_events)
{
	cr_assert_str_eq(rj_event_name(RJ_RQ_PAUSE), "pause");
	cr_assert_str_eq(rj_event_name(RJ_EV_DONE), "done");
	cr_assert_str_eq(rj_event_name((enum rj_event_type)31), "unknown");
}
