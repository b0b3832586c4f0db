/* SPDX-License-Identifier: BSD-2-Clause */
#include "bench/guest/ticker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#define NS_PER_S 1000000000ull
#define TICK_NS 1000000ull
#define LATE_MAX_NS (20 * TICK_NS)

uint64_t guest_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* Sleep, unless it is to stop. */
static void sleep_until(struct ticker *t, uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NS_PER_S),
			       .tv_nsec = (long)(ns % NS_PER_S) };

	pthread_mutex_lock(&t->lock);
	while (t->want_run && !t->quit && guest_now_ns() < ns)
		pthread_cond_timedwait(&t->wake, &t->lock, &ts);
	pthread_mutex_unlock(&t->lock);
}

static uint64_t pages_of_tick(struct ticker *t)
{
	uint64_t n;

	t->fraction += atomic_load_explicit(&t->rate_pages_per_s, memory_order_relaxed);
	n = t->fraction / 1000;
	t->fraction %= 1000;
	return n;
}

/* Beside each millisecond that it runs, it sleeps so long. */
static uint64_t throttled_ns(struct ticker *t)
{
	unsigned int percent = atomic_load_explicit(&t->throttle_percent, memory_order_relaxed);

	return TICK_NS * percent / (100 - percent);
}

/* Until it is to stop. */
static void run_ticks(struct ticker *t, uint64_t start_ns)
{
	uint64_t next_ns = start_ns + TICK_NS, now;
	int ret = 0;

	beats_start(&t->beats, start_ns);
	while (!ticker_must_stop(t)) {
		ret = t->tick(t->arg, t, pages_of_tick(t));
		if (ret)
			break;
		next_ns += throttled_ns(t);
		now = guest_now_ns();
		beats_beat(&t->beats, now);
		if (now < next_ns)
			sleep_until(t, next_ns);
		else if (now > next_ns + LATE_MAX_NS)
			next_ns = now - LATE_MAX_NS;
		next_ns += TICK_NS;
	}
	beats_stop(&t->beats, guest_now_ns());
	if (ret < 0) {
		pthread_mutex_lock(&t->lock);
		t->broken = ret;
		t->want_run = false;
		pthread_mutex_unlock(&t->lock);
	}
}

static void *ticker_main(void *arg)
{
	struct ticker *t = arg;

	prctl(PR_SET_TIMERSLACK, 1ul); /* the default of 50 us would be in every interval */
	pthread_mutex_lock(&t->lock);
	while (!t->quit) {
		if (t->want_run) {
			uint64_t start_ns = t->run_at_ns;

			t->running = true;
			pthread_mutex_unlock(&t->lock);
			run_ticks(t, start_ns);
			pthread_mutex_lock(&t->lock);
			t->running = false;
			pthread_cond_broadcast(&t->wake);
		} else {
			pthread_cond_wait(&t->wake, &t->lock);
		}
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* Without signals, so that those of the program go to its own threads; but with the one that says what it did itself. */
static int start_thread(struct ticker *t, const char *name)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&t->thread, NULL, ticker_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!ret)
		pthread_setname_np(t->thread, name);
	return -ret;
}

int ticker_init(struct ticker *t, const char *name)
{
	pthread_condattr_t attr;
	int ret;

	atomic_init(&t->stop, true);
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->wake, &attr);
	pthread_condattr_destroy(&attr);
	ret = start_thread(t, name);
	if (ret) {
		pthread_cond_destroy(&t->wake);
		pthread_mutex_destroy(&t->lock);
	}
	return ret;
}

void ticker_fini(struct ticker *t)
{
	pthread_mutex_lock(&t->lock);
	t->quit = true;
	atomic_store(&t->stop, true);
	pthread_cond_broadcast(&t->wake);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->wake);
	pthread_mutex_destroy(&t->lock);
}

int ticker_run(struct ticker *t)
{
	int ret;

	pthread_mutex_lock(&t->lock);
	ret = t->broken;
	if (!ret && !t->want_run) {
		t->want_run = true;
		t->run_at_ns = guest_now_ns();
		atomic_store(&t->stop, false);
		pthread_cond_broadcast(&t->wake);
	}
	pthread_mutex_unlock(&t->lock);
	return ret;
}

void ticker_ask_stop(struct ticker *t)
{
	atomic_store(&t->stop, true);
}

bool ticker_pause(struct ticker *t)
{
	bool was;

	pthread_mutex_lock(&t->lock);
	was = t->want_run;
	t->want_run = false;
	atomic_store(&t->stop, true);
	pthread_cond_broadcast(&t->wake);
	while (t->running)
		pthread_cond_wait(&t->wake, &t->lock);
	pthread_mutex_unlock(&t->lock);
	return was;
}
