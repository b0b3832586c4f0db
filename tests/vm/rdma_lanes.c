/* SPDX-License-Identifier: BSD-2-Clause */
#include <assert.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "rdma/lane_hello.h"
#include "rdma/rdma.h"
#include "tests/support/cases.h"
#include "tests/support/rdma_stranger.h"
#include "tests/support/transport_pair.h"

/*
 * The verbs transport over a device which is there: on $RAMJET_RDMA_ADDR and $RAMJET_RDMA_ADDR6, as tests/vm/run sets them.
 * Prints a line for each case and "N passed, N failed"; 0 if none failed, 77 without an address.
 *
 *   rdma_lanes [CASE]...      all of them, or those whose name begins so
 *
 * Cases with two processes fork before any call to verbs, and talk over a socket pair: the destination sends its keys and
 * addresses, the source says when to stop or die.
 */

#define MIB (1ull << 20)

static const char *addr4;
static const char *addr6;

static void print_log(void *arg, enum rj_log_level level, const char *line)
{
	printf("  log %d: %s\n", level, line);
}

static const struct rji_host log_host = { .log = print_log, .log_level = RJ_LOG_INFO };

static double seconds_since(uint64_t start_ns)
{
	return (double)(rji_now_ns() - start_ns) / 1e9;
}

static struct pair_opts opts(const char *host, uint32_t n_lanes)
{
	return (struct pair_opts){
		.ops = &rji_rdma_transport,
		.host = host,
		.n_lanes = n_lanes,
		.n_regions = 2,
		.region_bytes = 12 * MIB,
		.misalign = 1 * MIB + 8192,
		.peer_timeout_ms = 3000,
		.log = &log_host,
	};
}

/* --- both ends in this process --- */

static bool transfer(const char *host, uint32_t n_lanes)
{
	struct pair_opts o = opts(host, n_lanes);
	struct rji_lane_stats st;
	struct rj_error err;
	uint64_t sent = 0;
	uint64_t start;
	struct pair p;
	int ret;

	rji_error_init(&err);
	ret = pair_open(&p, &o, 1, &err);
	if (ret)
		printf("  %d: %s\n", ret, err.text);
	CHECK(!ret);
	printf("  announced %s\n", p.addrs.addr[0]);
	for (uint64_t round = 1; round < 4; round++) {
		pair_fill(&p, round);
		start = rji_now_ns();
		ret = pair_send_all(&p, round, &err);
		if (ret)
			printf("  %d: %s\n", ret, err.text);
		CHECK(!ret);
		printf("  round %" PRIu64 ": %.1f MB/s\n", round,
		       (double)(24 * MIB) / 1e6 / seconds_since(start));
		CHECK(pair_equal(&p));
	}
	for (uint32_t i = 0; i < n_lanes; i++) {
		rji_rdma_transport.stats(p.lane[i].source, &st);
		sent += st.sent_bytes;
	}
	CHECK(sent >= 3 * (24 * MIB + 4096) && sent < 3 * (24 * MIB + 4096) + n_lanes * 1024);
	start = rji_now_ns();
	ret = pair_end_lanes(&p);
	if (ret)
		printf("  serve: %d: %s\n", ret, p.lane[0].served_err.text);
	CHECK(!ret);
	pair_close(&p);
	printf("  closed in %.3f s\n", seconds_since(start));
	CHECK(seconds_since(start) < 2);
	return true;
}

static bool transfer_one_lane(void)
{
	return transfer(addr4, 1);
}

static bool transfer_four_lanes(void)
{
	return transfer(addr4, 4);
}

static bool transfer_sixteen_lanes_v6(void)
{
	return transfer(addr6, 16);
}

static bool transfer_any_address(void)
{
	return transfer("", 2);
}

/* Link-local addresses need the interface's name on both sides. */
static bool transfer_link_local(void)
{
	char host[128] = "";
	FILE *f =
		popen("ip -6 -o addr show dev v0 scope link | awk '{print $4}' | cut -d/ -f1", "r");

	if (!f || !fgets(host, sizeof(host) - 3, f) || pclose(f)) {
		printf("  v0 has no link-local address: skipped\n");
		return true;
	}
	host[strcspn(host, "\n")] = '\0';
	strcat(host, "%v0");
	return transfer(host, 2);
}

static bool routes(void)
{
	struct rji_rdma_route route;
	struct rj_error err;

	rji_error_init(&err);
	CHECK(!rji_rdma_route(NULL, addr4, 7471, 2000, &route, &err));
	printf("  %s: %s, software %d, %" PRIu64 " bit/s\n", addr4, route.device, route.software,
	       route.rate_bps);
	CHECK(!strcmp(route.device, "rxe0/1") && route.software);
	CHECK(!rji_rdma_route("rxe0", addr6, 7471, 2000, &route, &err));
	CHECK(!rji_rdma_route(NULL, "0.0.0.0", 7471, 2000, &route, &err));
	CHECK(rji_rdma_route(NULL, "127.0.0.1", 7471, 2000, &route, &err) == RJ_E_NO_RDMA);
	printf("  %s\n", err.text);
	rji_error_init(&err);
	CHECK(rji_rdma_route("mlx5_0", addr4, 7471, 2000, &route, &err) == RJ_E_NO_RDMA);
	printf("  %s\n", err.text);
	rji_error_init(&err);
	CHECK(rji_rdma_open_devices("rxe0,mlx5_7", &err) == -EINVAL);
	printf("  %s\n", err.text);
	CHECK(!rji_rdma_open_devices("rxe0", &err) && !rji_rdma_open_devices(NULL, &err));
	return true;
}

struct knocking {
	struct pair *p;
	int wrong_token, garbage, wrong_lane;
	enum rji_rdma_refusal reason[3];
};

static int knock(const struct knocking *k, const void *bytes, uint8_t len,
		 enum rji_rdma_refusal *reason_p)
{
	uint8_t answer[196] = { 0 };
	size_t answer_len = sizeof(answer);
	int type = rdma_stranger_knock(k->p->addrs.addr[0], bytes, len, answer, &answer_len);

	*reason_p = rji_rdma_get_refusal(answer, answer_len);
	return type;
}

static void *knock_thread(void *arg)
{
	struct rji_rdma_hello h = { .lane = 0 };
	uint8_t bytes[RJI_RDMA_HELLO_BYTES];
	struct knocking *k = arg;

	memcpy(h.session_id, k->p->admission.session_id, sizeof(h.session_id));
	memcpy(h.token, k->p->admission.token, sizeof(h.token));
	h.token[31] ^= 1;
	rji_rdma_put_hello(&h, bytes);
	k->wrong_token = knock(k, bytes, sizeof(bytes), &k->reason[0]);
	k->garbage = knock(k, "hello", 5, &k->reason[1]);
	h.token[31] ^= 1;
	h.lane = 9;
	rji_rdma_put_hello(&h, bytes);
	k->wrong_lane = knock(k, bytes, sizeof(bytes), &k->reason[2]);
	return NULL;
}

/* RDMA_CM_EVENT_REJECTED is 8. */
static bool strangers_are_refused(void)
{
	struct pair_opts o = opts(addr4, 2);
	struct rji_lane *lanes[2];
	struct knocking k;
	struct rj_error err;
	pthread_t thread;
	struct pair p;

	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	CHECK(!pair_listen(&p, &err));
	k.p = &p;
	pthread_create(&thread, NULL, knock_thread, &k);
	CHECK(rji_rdma_transport.accept(p.destination, &p.admission, rji_now_ns() + RJI_NS_PER_S,
					lanes, &err) == RJ_E_TIMEOUT);
	printf("  %s\n", err.text);
	pthread_join(thread, NULL);
	CHECK(k.wrong_token == 8 && k.reason[0] == RJI_RDMA_REFUSED_TOKEN);
	CHECK(k.garbage == 8 && k.reason[1] == RJI_RDMA_REFUSED_GARBAGE);
	CHECK(k.wrong_lane == 8 && k.reason[2] == RJI_RDMA_REFUSED_LANE);
	rji_error_init(&err);
	CHECK(!pair_connect(&p, &err));
	CHECK(!pair_send_all(&p, 1, &err) && pair_equal(&p));
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	return true;
}

/* --- two processes --- */

struct announcement {
	struct rji_admission admission;
	struct rji_addrs addrs;
	uint32_t keys_bytes;
	uint8_t keys[4096];
};

#define BYTES (32 * MIB)

static uint8_t *memory(void)
{
	uint8_t *at = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static struct rji_transport *end(bool is_destination, struct rji_stop *stop, uint8_t *at)
{
	struct rji_transport_opts o = {
		.host = &log_host,
		.stop = stop,
		.is_destination = is_destination,
		.gid_index = -1,
		.traffic_class = -1,
		.peer_timeout_ms = 3000,
	};
	struct rji_memory m = { 0, "ram", at, BYTES };
	struct rji_transport *tp;
	struct rj_error err;

	rji_error_init(&err);
	if (rji_stop_init(stop) || rji_rdma_transport.create(&o, &err, &tp) ||
	    rji_rdma_transport.reg(tp, &m, NULL, &err)) {
		printf("  %s\n", err.text);
		exit(1);
	}
	return tp;
}

/* A destination of one lane: what serve() says, and whether the pattern came, goes out as the exit status. */
static int run_destination(int fd)
{
	static struct announcement a;
	struct rji_listen l = { .control_listen_fd = -1, .host = addr4 };
	uint8_t *at = memory();
	struct rji_transport *tp;
	struct rji_lane *lane;
	struct rji_stop stop;
	struct rj_error err;
	int ret;

	tp = end(true, &stop, at);
	rji_error_init(&err);
	ret = rji_rdma_transport.export_keys(tp, 0, a.keys, sizeof(a.keys), &err);
	a.keys_bytes = (uint32_t)ret;
	a.admission.n_lanes = 1;
	ret = ret < 0 ? ret : rji_rdma_transport.listen(tp, &l, &a.addrs, &err);
	if (ret || write(fd, &a, sizeof(a)) != sizeof(a)) {
		printf("  destination: %s\n", err.text);
		return 1;
	}
	ret = rji_rdma_transport.accept(tp, &a.admission, rji_now_ns() + 10 * RJI_NS_PER_S, &lane,
					&err);
	if (!ret)
		ret = rji_rdma_transport.serve(lane, &err);
	if (ret)
		printf("  destination: %d: %s\n", ret, err.text);
	for (uint64_t i = 0; !ret && i < BYTES; i++)
		ret = at[i] != (uint8_t)(i * 7 + i / 4096) ? 2 : 0;
	rji_rdma_transport.withdraw(tp);
	rji_rdma_transport.close(&lane);
	rji_rdma_transport.destroy(&tp);
	return ret == 0 ? 0 : ret == RJ_E_PEER_GONE ? 3 : ret == RJ_E_LANE ? 4 : 5;
}

struct source {
	struct rji_transport *tp;
	struct rji_stop stop;
	struct rji_lane *lane;
	uint8_t *at;
};

static bool source_open(struct source *s, int fd)
{
	static struct announcement a;
	struct rj_error err;
	ssize_t got = 0;
	ssize_t n = 1;

	while (n > 0 && got < (ssize_t)sizeof(a)) {
		n = read(fd, (char *)&a + got, sizeof(a) - (size_t)got);
		got += n;
	}
	CHECK(got == (ssize_t)sizeof(a));
	s->at = memory();
	for (uint64_t i = 0; i < BYTES; i++)
		s->at[i] = (uint8_t)(i * 7 + i / 4096);
	s->tp = end(false, &s->stop, s->at);
	rji_error_init(&err);
	if (rji_rdma_transport.import_keys(s->tp, 0, a.keys, a.keys_bytes, &err) ||
	    rji_rdma_transport.connect(s->tp, 0, &a.addrs, &a.admission,
				       rji_now_ns() + 5 * RJI_NS_PER_S, &s->lane, &err)) {
		printf("  source: %s\n", err.text);
		return false;
	}
	return true;
}

static int send_once(struct source *s, struct rj_error *err)
{
	struct rji_extent e[16];
	int ret = 0;

	for (uint64_t at = 0; !ret && at < BYTES; at += 16 * MIB / 8) {
		for (uint32_t i = 0; i < 16; i++)
			e[i] = (struct rji_extent){ at + i * 131072, 131072, 0 };
		ret = rji_rdma_transport.post(s->lane, e, 16, err);
	}
	return ret;
}

static pid_t fork_with(int fd[2])
{
	pid_t pid;

	if (pipe(fd))
		return -1;
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static int wait_for(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Each case of two processes runs in a child that has not touched verbs: it forks again for the destination. */
static bool two_processes(void)
{
	struct rj_error err;
	struct source s;
	int fd[2];
	pid_t pid = fork_with(fd);

	if (pid == 0)
		_exit(run_destination(fd[1]));
	rji_error_init(&err);
	CHECK(source_open(&s, fd[0]));
	CHECK(!send_once(&s, &err));
	CHECK(!rji_rdma_transport.drain(s.lane, &err));
	CHECK(!rji_rdma_transport.fence(s.lane, 0, &err));
	rji_rdma_transport.close(&s.lane);
	rji_rdma_transport.destroy(&s.tp);
	CHECK(wait_for(pid) == 0);
	return true;
}

/* Post until it fails, which it must within seconds of the signal. */
static bool until_error(struct source *s, pid_t pid, int sig, double limit_s)
{
	uint64_t start = rji_now_ns();
	uint64_t killed = 0;
	struct rj_error err;
	int ret = 0;

	rji_error_init(&err);
	while (!ret) {
		ret = send_once(s, &err);
		if (!ret)
			ret = rji_rdma_transport.fence(s->lane, 0, &err);
		if (!killed && seconds_since(start) > 0.3) {
			kill(pid, sig);
			killed = rji_now_ns();
		}
	}
	printf("  %.2f s after signal %d: %d (status %u, vendor 0x%x): %s\n", seconds_since(killed),
	       sig, ret, err.wc_status, err.wc_vendor_err, err.text);
	CHECK(killed && seconds_since(killed) < limit_s);
	CHECK(err.code == ret && err.lane == 0 && err.text[0]);
	CHECK(ret == RJ_E_LANE || ret == RJ_E_PEER_GONE);
	CHECK(send_once(s, &err) == ret); /* stays failed */
	start = rji_now_ns();
	rji_rdma_transport.close(&s->lane);
	rji_rdma_transport.destroy(&s->tp);
	printf("  closed in %.3f s\n", seconds_since(start));
	CHECK(seconds_since(start) < 2);
	return true;
}

static bool destination_killed(void)
{
	struct source s;
	int fd[2];
	pid_t pid = fork_with(fd);

	if (pid == 0)
		_exit(run_destination(fd[1]));
	CHECK(source_open(&s, fd[0]));
	CHECK(until_error(&s, pid, SIGKILL, 3));
	CHECK(wait_for(pid) == 128 + SIGKILL);
	return true;
}

static bool destination_frozen(void)
{
	struct source s;
	int fd[2];
	pid_t pid = fork_with(fd);

	if (pid == 0)
		_exit(run_destination(fd[1]));
	CHECK(source_open(&s, fd[0]));
	CHECK(until_error(&s, pid, SIGSTOP, 5));
	kill(pid, SIGCONT);
	CHECK(wait_for(pid) == 3);
	return true;
}

static bool source_killed(void)
{
	uint64_t start;
	int fd[2], status;
	pid_t source, destination;

	if (pipe(fd))
		return false;
	fflush(stdout);
	destination = fork();
	if (destination == 0)
		_exit(run_destination(fd[1]));
	source = fork();
	if (source == 0) {
		struct rj_error err;
		struct source s;

		rji_error_init(&err);
		if (source_open(&s, fd[0]))
			while (!send_once(&s, &err))
				;
		_exit(1);
	}
	usleep(1500000);
	kill(source, SIGKILL);
	start = rji_now_ns();
	CHECK(wait_for(source) == 128 + SIGKILL);
	status = wait_for(destination);
	printf("  destination's exit %d after %.2f s\n", status, seconds_since(start));
	CHECK(status == 3 || status == 4);
	CHECK(seconds_since(start) < 4);
	return true;
}

static void drop_ipc_lock(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	syscall(SYS_capget, &head, data);
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	syscall(SYS_capset, &head, data);
}

static bool memlock_is_explained(void)
{
	struct rji_transport_opts o = { .host = &log_host, .gid_index = -1, .traffic_class = -1 };
	struct rlimit limit = { 8 * MIB, 8 * MIB };
	struct rji_memory m = { 0, "pc.ram", memory(), BYTES };
	struct rji_transport *tp;
	struct rj_error err;

	CHECK(!setrlimit(RLIMIT_MEMLOCK, &limit));
	drop_ipc_lock();
	rji_error_init(&err);
	CHECK(!rji_rdma_transport.create(&o, &err, &tp));
	CHECK(rji_rdma_transport.reg(tp, &m, NULL, &err) == RJ_E_MEMLOCK);
	printf("  %s\n", err.text);
	CHECK(strstr(err.text, "33554432") && strstr(err.text, "8388608") &&
	      strstr(err.text, "pc.ram"));
	m.len_bytes = 4 * MIB;
	rji_error_init(&err);
	CHECK(!rji_rdma_transport.reg(tp, &m, NULL, &err));
	rji_rdma_transport.destroy(&tp);
	return true;
}

static bool withdraw_ends_it(void)
{
	struct pair_opts o = opts(addr4, 4);
	struct rj_error err;
	uint64_t start;
	struct pair p;
	uint8_t *copy;
	int ret;

	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	CHECK(!pair_send_all(&p, 1, &err));
	pair_fill(&p, 2);
	for (uint32_t i = 0; i < 4; i++) {
		struct rji_extent e = { i * 2 * MIB, 2 * MIB, 0 };

		CHECK(!rji_rdma_transport.post(p.lane[i].source, &e, 1, &err));
	}
	start = rji_now_ns();
	rji_rdma_transport.withdraw(p.destination);
	printf("  withdrawn in %.1f ms\n", seconds_since(start) * 1e3);
	copy = malloc(12 * MIB);
	memcpy(copy, p.destination_memory[0].host, 12 * MIB);
	ret = pair_send_all(&p, 3, &err);
	printf("  source: %d: %s\n", ret, err.text);
	CHECK(ret == RJ_E_LANE || ret == RJ_E_PEER_GONE);
	CHECK(!memcmp(copy, p.destination_memory[0].host, 12 * MIB));
	CHECK(!pair_end_lanes(&p)); /* what was withdrawn is no error at the destination */
	free(copy);
	pair_close(&p);
	return true;
}

static bool stop_ends_waits(void)
{
	struct pair_opts o = opts(addr4, 2);
	struct rj_error err;
	struct pair p;

	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	rji_stop_set(&p.source_stop);
	CHECK(pair_send_all(&p, 1, &err) == -ECANCELED);
	rji_stop_set(&p.destination_stop);
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	return true;
}

static bool nobody_listens(void)
{
	struct pair_opts o = opts(addr4, 1);
	struct rji_addrs addrs = { .n = 1 };
	struct rji_lane *lane = NULL;
	struct rj_error err;
	uint64_t start = rji_now_ns();
	struct pair p;

	rji_error_init(&err);
	CHECK(!pair_create(&p, &o, 1, &err));
	snprintf(addrs.addr[0], sizeof(addrs.addr[0]), "%s:1", addr4);
	CHECK(rji_rdma_transport.connect(p.source, 0, &addrs, &p.admission,
					 rji_now_ns() + 5 * RJI_NS_PER_S, &lane,
					 &err) == RJ_E_CONNECT);
	printf("  %.2f s: %s\n", seconds_since(start), err.text);
	CHECK(seconds_since(start) < 2);
	/* An address on the same network which nobody has. */
	snprintf(addrs.addr[0], sizeof(addrs.addr[0]), "10.0.9.77:7471");
	start = rji_now_ns();
	rji_error_init(&err);
	CHECK(rji_rdma_transport.connect(p.source, 0, &addrs, &p.admission,
					 rji_now_ns() + 1 * RJI_NS_PER_S, &lane,
					 &err) == RJ_E_CONNECT);
	printf("  %.2f s: %s\n", seconds_since(start), err.text);
	CHECK(seconds_since(start) < 2 && !lane);
	pair_close(&p);
	return true;
}

/* An idle lane: the destination's pings keep it, and nothing else is needed. */
static bool idle_lane_lives(void)
{
	struct pair_opts o = opts(addr4, 1);
	struct rj_error err;
	struct pair p;

	o.peer_timeout_ms = 500;
	rji_error_init(&err);
	CHECK(!pair_open(&p, &o, 1, &err));
	usleep(2500000);
	CHECK(!pair_send_all(&p, 1, &err));
	CHECK(pair_equal(&p));
	CHECK(!pair_end_lanes(&p));
	pair_close(&p);
	return true;
}

static const struct test_case cases[] = {
#define CASE(name)                                                                                 \
	{                                                                                          \
#name, name                                                                        \
	}
	CASE(routes),
	CASE(transfer_one_lane),
	CASE(transfer_four_lanes),
	CASE(transfer_sixteen_lanes_v6),
	CASE(transfer_any_address),
	CASE(transfer_link_local),
	CASE(two_processes),
	CASE(destination_killed),
	CASE(destination_frozen),
	CASE(source_killed),
	CASE(strangers_are_refused),
	CASE(nobody_listens),
	CASE(withdraw_ends_it),
	CASE(stop_ends_waits),
	CASE(idle_lane_lives),
	CASE(memlock_is_explained),
#undef CASE
};

int main(int argc, char **argv)
{
	addr4 = getenv("RAMJET_RDMA_ADDR");
	addr6 = getenv("RAMJET_RDMA_ADDR6");
	if (!addr4 || !addr6) {
		printf("no RAMJET_RDMA_ADDR and RAMJET_RDMA_ADDR6: run it by tests/vm/run\n");
		return 77;
	}
	/* Apart: verbs and fork do not go together, and a lowered limit stays. */
	return cases_run(cases, sizeof(cases) / sizeof(cases[0]), 60, argc, argv);
}
