/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "bench/common/units.h"
#include "bench/migrate/migrate.h"

static const struct {
	const char *name;
	size_t offset;
} terms[] = {
#define TERM(name)                                                                                 \
	{                                                                                          \
#name, offsetof(struct rj_downtime_terms, name##_ns)                               \
	}
	TERM(pause), TERM(harvest), TERM(send),	    TERM(fence),  TERM(save),
	TERM(load),  TERM(revoke),  TERM(handover), TERM(resume),
#undef TERM
};

#define N_TERMS (sizeof(terms) / sizeof(*terms))

static uint64_t term_ns(const struct rj_downtime_terms *t, size_t i)
{
	return *(const uint64_t *)((const char *)t + terms[i].offset);
}

/* Nanoseconds to milliseconds with three digits: what a person and a script can read. */
static json_t *ms(uint64_t ns)
{
	return json_real((double)(ns / 1000) / 1e3);
}

static json_t *seconds(uint64_t ns)
{
	return json_real((double)(ns / 1000) / 1e6);
}

static json_t *text_or_null(const char *text)
{
	return text && *text ? json_string(text) : json_null();
}

json_t *result_terms(const struct rj_downtime_terms *t)
{
	json_t *o = json_object();

	for (size_t i = 0; i < N_TERMS; i++)
		json_object_set_new(o, terms[i].name, ms(term_ns(t, i)));
	return o;
}

json_t *result_pages(const struct rj_page_counts *p)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "normal", (json_int_t)p->normal, "zero",
			 (json_int_t)p->zero, "hole", (json_int_t)p->hole, "free",
			 (json_int_t)p->free_pages, "same", (json_int_t)p->same, "delta",
			 (json_int_t)p->delta, "compressed", (json_int_t)p->compressed);
}

static json_t *filters_object(const struct rj_stats *st)
{
	const struct rj_page_counts *p = &st->pages;
	const uint64_t pages[RJ_N_FILTERS] = { p->hole, p->free_pages, p->zero,
					       p->same, p->delta,      p->compressed };
	json_t *o = json_object();

	for (uint32_t i = 0; i < RJ_N_FILTERS; i++) {
		const struct rj_filter_stats *f = &st->filter[i];

		json_object_set_new(o, filter_name(i),
				    json_pack("{s:I,s:I,s:I,s:i}", "pages", (json_int_t)pages[i],
					      "saved_bytes", (json_int_t)f->saved_bytes, "cost_ns",
					      (json_int_t)f->cost_ns, "on_percent",
					      (int)f->on_percent));
	}
	return o;
}

static json_t *hints_object(const struct migrate_result *res)
{
	const struct guest_free_figures *f = &res->free_figures;

	if (!res->has_free)
		return json_null();
	return json_pack("{s:I,s:I,s:I,s:I}", "hints", (json_int_t)f->n_hints, "pages",
			 (json_int_t)f->hinted_pages, "taken_pages", (json_int_t)f->taken_pages,
			 "refused", (json_int_t)f->refused_hints);
}

static void set_int(json_t *o, const char *key, uint64_t v)
{
	json_object_set_new(o, key, json_integer((json_int_t)v));
}

static json_t *lanes_array(const struct lane_report *r)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < r->n_lanes; i++) {
		const struct rj_lane_plan *lp = &r->plan[i];
		json_t *o = json_object();

		set_int(o, "lane", i);
		json_object_set_new(o, "node", lp->node < 0 ? json_null() : json_integer(lp->node));
		json_object_set_new(o, "cpus", json_string(lp->cpus));
		json_object_set_new(o, "port", text_or_null(lp->port));
		json_object_set_new(o, "why", json_string(lp->why));
		json_array_append_new(a, o);
	}
	return a;
}

static json_t *node_bytes_array(const struct lane_report *r)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < r->n_bytes; i++) {
		const struct rj_lane_bytes *lb = &r->bytes[i];
		json_t *o = json_object();

		set_int(o, "lane", lb->lane);
		json_object_set_new(o, "node", lb->node < 0 ? json_null() : json_integer(lb->node));
		json_object_set_new(o, "local",
				    lb->locality == RJ_LOCALITY_UNKNOWN
					    ? json_null()
					    : json_boolean(lb->locality == RJ_LOCAL));
		set_int(o, "planned_bytes", lb->planned_bytes);
		set_int(o, "bytes", lb->sent_bytes);
		set_int(o, "busy_bytes", lb->busy_bytes);
		json_array_append_new(a, o);
	}
	return a;
}

static uint64_t bytes_of_locality(const struct lane_report *r, enum rj_locality locality)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < r->n_bytes; i++)
		sum += r->bytes[i].locality == (uint32_t)locality ? r->bytes[i].sent_bytes : 0;
	return sum;
}

/* The destination's, where this is the source and knows them. */
static void set_peer_pins(json_t *o, const struct migrate_result *res)
{
	const struct migrate_pins *p = &res->peer_pins;
	bool known = res->peer_cpu_known;

	json_object_set_new(o, "destination_pinned_peak_bytes",
			    known ? json_integer((json_int_t)p->peak_bytes) : json_null());
	json_object_set_new(o, "destination_register_ms", known ? ms(p->register_ns) : json_null());
	json_object_set_new(o, "destination_evictions",
			    known ? json_integer((json_int_t)p->evictions) : json_null());
}

/* With strict downtime it can only have come after COMMIT. */
static bool overshoots(const struct migrate_result *res)
{
	return res->st.downtime_ns > res->max_downtime_ms * 1000000ull;
}

static json_t *to_json(const struct migrate_result *res)
{
	const struct rj_stats *st = &res->st;
	bool is_destination = res->role && !strcmp(res->role, "destination");
	json_t *o = json_object();

	if (res->role)
		json_object_set_new(o, "role", json_string(res->role));
	json_object_set_new(o, "status", json_string(res->status));
	json_object_set_new(o, "error", text_or_null(res->error));
	json_object_set_new(o, "runs_at", json_string(res->runs_at));
	json_object_set_new(o, "transport", text_or_null(res->transport));
	json_object_set_new(o, "guest", text_or_null(res->guest));
	set_int(o, "guest_bytes", st->guest_bytes);
	set_int(o, "lanes", st->n_lanes);
	set_int(o, "rounds", st->rounds);
	json_object_set_new(o, "setup_time_ms", ms(st->setup_ns));
	json_object_set_new(o, "total_time_ms", ms(st->total_ns));
	json_object_set_new(o, "downtime_ms", ms(st->downtime_ns));
	set_int(o, "max_downtime_ms", res->max_downtime_ms);
	json_object_set_new(o, "predicted_downtime_ms", ms(st->predicted_downtime_ns));
	json_object_set_new(o, "predicted_p99_ms", ms(st->predicted_p99_ns));
	json_object_set_new(o, "overshoot", json_boolean(overshoots(res)));
	json_object_set_new(o, "downtime_terms", result_terms(&st->downtime));
	json_object_set_new(o, "predicted_terms", result_terms(&st->predicted));
	json_object_set_new(o, "verify_ms", ms(res->verify_ns));
	json_object_set_new(o, "verified",
			    res->verified < 0 ? json_null() : json_boolean(res->verified));
	json_object_set_new(o, "verify_text", text_or_null(res->verify_text));
	set_int(o, "counter_before", res->counter_before);
	set_int(o, "counter_after", res->counter_after);
	set_int(o, "transferred_bytes", st->transferred_bytes);
	json_object_set_new(o, "pages", result_pages(&st->pages));
	json_object_set_new(o, "filters", filters_object(st));
	set_int(o, "cleared_pages", st->cleared_pages);
	set_int(o, "free_pages", res->has_free ? res->free_figures.free_pages : 0);
	json_object_set_new(o, "hints", hints_object(res));
	json_object_set_new(o, "lanes_plan", lanes_array(&res->lanes));
	json_object_set_new(o, "node_bytes", node_bytes_array(&res->lanes));
	set_int(o, "local_bytes", bytes_of_locality(&res->lanes, RJ_LOCAL));
	set_int(o, "remote_bytes", bytes_of_locality(&res->lanes, RJ_REMOTE));
	set_int(o, "throughput_bytes_per_s", st->throughput_bytes_per_s);
	set_int(o, "dirty_rate_bytes_per_s", st->dirty_rate_bytes_per_s);
	json_object_set_new(o, "guest_gap_max_ms", ms(res->beats.gap_max_ns));
	json_object_set_new(o, "guest_gap_p99_ms", ms(res->beats.gap_p99_ns));
	json_object_set_new(o, "guest_gap_before_max_ms", ms(res->beats_before.gap_max_ns));
	json_object_set_new(o, "guest_gap_before_p99_ms", ms(res->beats_before.gap_p99_ns));
	set_int(o, "request_max_us", st->request_max_ns / 1000);
	json_object_set_new(o, "request_max",
			    json_string(rj_event_name((enum rj_event_type)st->request_max_type)));
	set_int(o, "throttle_percent", st->throttle_peak_percent);
	json_object_set_new(o, "throttled_ms", ms(st->throttled_ns));
	json_object_set_new(o, "throttle_cost_ms", ms(st->throttle_cost_ns));
	set_int(o, "rollbacks", st->rollbacks);
	set_int(o, "lanes_replaced", st->lanes_replaced);
	set_int(o, "collect_max_us", st->collect_max_ns / 1000);
	set_int(o, "rearm_max_us", st->rearm_max_ns / 1000);
	json_object_set_new(o, "tracker_start_ms", ms(st->tracker_start_ns));
	json_object_set_new(o, "tracker_stop_ms", ms(st->tracker_stop_ns));
	set_int(o, "metadata_bytes", st->metadata_bytes);
	set_int(o, "registered_bytes", st->registered_bytes);
	set_int(o, "pinned_peak_bytes", st->pinned_peak_bytes);
	json_object_set_new(o, "register_ms", ms(st->register_ns));
	json_object_set_new(o, "register_wait_ms", ms(st->register_wait_ns));
	set_int(o, "evictions", st->evictions);
	set_peer_pins(o, res);
	set_int(o, "state_bytes", st->state_bytes);
	json_object_set_new(o, "source_cpu_s", is_destination ? json_null() : seconds(st->cpu_ns));
	json_object_set_new(o, "destination_cpu_s",
			    is_destination	  ? seconds(st->cpu_ns)
			    : res->peer_cpu_known ? seconds(res->peer_cpu_ns)
						  : json_null());
	return o;
}

void result_print_json(const struct migrate_result *res)
{
	json_t *o = to_json(res);

	json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
	putchar('\n');
	fflush(stdout);
	json_decref(o);
}

enum migrate_exit result_exit(const struct migrate_result *res)
{
	if (!strcmp(res->status, "unknown"))
		return MIGRATE_UNKNOWN;
	if (!strcmp(res->status, "cancelled"))
		return MIGRATE_CANCELLED;
	return strcmp(res->status, "completed") || res->verified == 0 ? MIGRATE_FAILED
								      : MIGRATE_COMPLETED;
}

/* --- for people --- */

static void print_downtime(const struct migrate_result *res)
{
	const struct rj_stats *st = &res->st;

	printf("  downtime     %.1f ms of %u ms allowed (predicted %.1f ms)\n",
	       (double)st->downtime_ns / 1e6, res->max_downtime_ms,
	       (double)st->predicted_downtime_ns / 1e6);
	for (size_t i = 0; i < N_TERMS; i++)
		printf("    %-10s %8.2f ms  (predicted %.2f)\n", terms[i].name,
		       (double)term_ns(&st->downtime, i) / 1e6,
		       (double)term_ns(&st->predicted, i) / 1e6);
}

/* Those that did something. */
static void print_filters(const struct rj_stats *st)
{
	const struct rj_page_counts *p = &st->pages;
	const uint64_t pages[RJ_N_FILTERS] = { p->hole, p->free_pages, p->zero,
					       p->same, p->delta,      p->compressed };

	for (uint32_t i = 0; i < RJ_N_FILTERS; i++) {
		const struct rj_filter_stats *f = &st->filter[i];

		if (!pages[i] && f->cost_ns < 1000000)
			continue;
		printf("  %-12s %llu pages, saved %s, cost the lanes %.1f ms; applied to %u %%\n",
		       filter_name(i), (unsigned long long)pages[i], UNITS_BYTES(f->saved_bytes),
		       (double)f->cost_ns / 1e6, f->on_percent);
	}
}

static void print_memory(const struct migrate_result *res)
{
	if (res->verified < 0)
		printf("  memory       not compared%s%s\n",
		       res->verify_text[0] ? ": " : " (--verify does)", res->verify_text);
	else
		printf("  memory       %s: %s\n", res->verified ? "verified" : "WRONG",
		       res->verify_text);
	if (res->counter_after)
		printf("  counters     %s: heartbeat %llu when paused, %llu after\n",
		       res->counter_after > res->counter_before ? "go on" : "STAND STILL",
		       (unsigned long long)res->counter_before,
		       (unsigned long long)res->counter_after);
}

static void print_failure(const struct migrate_result *res)
{
	printf("%s: %s\n", res->status, res->error);
	if (!strcmp(res->runs_at, "unknown"))
		printf("  the guest    may run at the destination: look there first, and never run it on both sides\n");
	else if (res->st.guest_bytes)
		printf("  the guest    is the %s's%s\n", res->runs_at,
		       res->counter_after > res->counter_before ? " and runs there" : "");
}

void result_print_summary(const struct migrate_result *res)
{
	const struct rj_stats *st = &res->st;

	if (strcmp(res->status, "completed")) {
		print_failure(res);
		return;
	}
	printf("completed: %s of %s guest memory by %s in %.2f s, %u round%s, %u lanes\n",
	       UNITS_BYTES(st->guest_bytes), res->guest ? res->guest : "", res->transport,
	       (double)st->total_ns / 1e9, st->rounds, st->rounds == 1 ? "" : "s", st->n_lanes);
	if (!res->role || strcmp(res->role, "destination"))
		print_downtime(res);
	print_memory(res);
	printf("  moved        %s at %s; the guest dirtied %s in the last round\n",
	       UNITS_BYTES(st->transferred_bytes), UNITS_RATE(st->throughput_bytes_per_s),
	       UNITS_RATE(st->dirty_rate_bytes_per_s));
	print_filters(st);
	if (bytes_of_locality(&res->lanes, RJ_REMOTE))
		printf("  nodes        %s sent by lanes near it, %s by lanes at other nodes\n",
		       UNITS_BYTES(bytes_of_locality(&res->lanes, RJ_LOCAL)),
		       UNITS_BYTES(bytes_of_locality(&res->lanes, RJ_REMOTE)));
	printf("  guest        longest heartbeat gap while running %.1f ms, p99 %.1f ms\n",
	       (double)res->beats.gap_max_ns / 1e6, (double)res->beats.gap_p99_ns / 1e6);
	if (res->beats_before.n)
		printf("               before the migration %.1f ms, p99 %.1f ms\n",
		       (double)res->beats_before.gap_max_ns / 1e6,
		       (double)res->beats_before.gap_p99_ns / 1e6);
	if (st->throttle_peak_percent)
		printf("  throttle     up to %u %%, for %.2f s, which cost the guest %.2f s\n",
		       st->throttle_peak_percent, (double)st->throttled_ns / 1e9,
		       (double)st->throttle_cost_ns / 1e9);
	if (st->pinned_peak_bytes)
		printf("  pinned       at most %s at once; lanes waited %.0f ms for registrations\n",
		       UNITS_BYTES(st->pinned_peak_bytes), (double)st->register_wait_ns / 1e6);
	if (res->peer_cpu_known)
		printf("  CPU          source %.2f s, destination %.2f s (the library's threads)\n",
		       (double)st->cpu_ns / 1e9, (double)res->peer_cpu_ns / 1e9);
	else
		printf("  CPU          %.2f s (the library's threads)\n", (double)st->cpu_ns / 1e9);
}
