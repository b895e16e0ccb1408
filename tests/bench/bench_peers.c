/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_peers: what one value of 64 KiB costs a client that waits for each: a load from DDR
 * by hbmd, and a GET of the servers that are asked for by name, over Unix sockets, in turns.
 * Each value has a place of its own where it is wanted, with hbmd in the memory of the device,
 * with the others in that of the client.
 * Prints "name value us" lines, and "name_ratio value x", how much faster hbmd is; medians
 * of several rounds.
 *
 * 	bench_peers N [redis|memcached SOCKET]...	N values a round
 */
#include "tests/support/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { KEYS = 32, BYTES = 65536, ROUNDS = 9, PEERS = 4 };

struct protocol {
	const char *name;
	const char *set, *get;         /* before a key, of two digits */
	const char *set_end, *get_end; /* after it */
	const char *stored;
	const char *head, *tail; /* around a value in an answer: an example, and the end */
};

static const struct protocol protocols[] = {
	{"redis", "*3\r\n$3\r\nSET\r\n$2\r\n", "*2\r\n$3\r\nGET\r\n$2\r\n", "\r\n$65536\r\n",
	 "\r\n", "+OK\r\n", "$65536\r\n", "\r\n"},
	{"memcached", "set ", "get ", " 0 0 65536\r\n", "\r\n", "STORED\r\n",
	 "VALUE 00 0 65536\r\n", "\r\nEND\r\n"},
};

struct peer {
	const struct protocol *protocol;
	int fd;
	double times[ROUNDS];
};

static double median(const double *values)
{
	double sorted[ROUNDS];

	memcpy(sorted, values, sizeof(sorted));

	return measure_median(sorted, ROUNDS);
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "bench: %s: %s\n", what, why);
	exit(1);
}

/* ---- peers ---- */

static void peer_write(const struct peer *peer, const char *bytes, size_t size)
{
	for (ssize_t n; size > 0; bytes += n, size -= (size_t)n)
		if ((n = write(peer->fd, bytes, size)) <= 0)
			die(peer->protocol->name, "the connection is gone");
}

static void peer_read(const struct peer *peer, char *bytes, size_t size)
{
	for (ssize_t n; size > 0; bytes += n, size -= (size_t)n)
		if ((n = read(peer->fd, bytes, size)) <= 0)
			die(peer->protocol->name, "the connection is gone");
}

static void peer_ask(const struct peer *peer, const char *before, unsigned key, const char *after)
{
	char line[64];
	int size = snprintf(line, sizeof(line), "%s%02u%s", before, key, after);

	peer_write(peer, line, (size_t)size);
}

static void peer_get(const struct peer *peer, unsigned key)
{
	static char answers[KEYS][BYTES + 64];
	const struct protocol *protocol = peer->protocol;
	size_t head = strlen(protocol->head), tail = strlen(protocol->tail);
	char *answer = answers[key];

	peer_ask(peer, protocol->get, key, protocol->get_end);
	peer_read(peer, answer, head + BYTES + tail);
	if (memcmp(answer + head + BYTES, protocol->tail, tail) != 0)
		die(protocol->name, "not the answer that was expected");
}

static void peer_fill(const struct peer *peer)
{
	static char value[BYTES];
	char answer[16];

	for (unsigned key = 0; key < KEYS; key++) {
		peer_ask(peer, peer->protocol->set, key, peer->protocol->set_end);
		peer_write(peer, value, sizeof(value));
		peer_write(peer, "\r\n", 2);
		peer_read(peer, answer, strlen(peer->protocol->stored));
	}
}

static void peer_open(struct peer *peer, const char *name, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (strcmp(name, protocols[i].name) == 0)
			peer->protocol = &protocols[i];
	if (!peer->protocol)
		die(name, "not a server that is known here");

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (peer->fd < 0 || connect(peer->fd, (void *)&address, sizeof(address)) < 0)
		die(name, "no connection");
	peer_fill(peer);
}

static void peer_run(struct peer *peer, unsigned round, unsigned count)
{
	double start = measure_now();

	for (unsigned i = 0; i < count; i++)
		peer_get(peer, i % KEYS);
	peer->times[round] = (measure_now() - start) / count * 1e6;
}

static void peer_print(const struct peer *peer, const double *ours)
{
	double ratios[ROUNDS];

	for (unsigned i = 0; i < ROUNDS; i++)
		ratios[i] = peer->times[i] / ours[i];
	printf("%s %.2f us\n%s_ratio %.3f x\n", peer->protocol->name, median(peer->times),
	       peer->protocol->name, median(ratios));
}

/* ---- hbmd ---- */

struct ours {
	struct hbm *hbm;
	uint32_t ns;
	struct hbm_segment segments[KEYS];
	struct hbm_block blocks[KEYS];
	double times[ROUNDS];
};

static void ours_check(struct ours *ours, int status)
{
	if (status != HBM_OK)
		die("hbmd", ours->hbm ? hbm_error(ours->hbm) : hbm_strerror(status));
}

static void ours_open(struct ours *ours)
{
	const struct hbm_namespace_options namespace = {.model = "peers", .block_bytes = BYTES};
	const struct hbm_region_options room = {.address_space = KEYS * BYTES,
						.slab = KEYS * BYTES};
	struct hbm_region *region;
	hbm_result results[KEYS];

	ours_check(ours, hbm_connect(&ours->hbm, NULL));
	ours_check(ours, hbm_namespace_open(ours->hbm, &namespace, &ours->ns));
	ours_check(ours, hbm_region_create(ours->hbm, &room, &region));
	ours_check(ours, hbm_commit(ours->hbm, &(struct hbm_range){region, 0, KEYS * BYTES}, 1));

	for (unsigned i = 0; i < KEYS; i++) {
		ours->segments[i] = (struct hbm_segment){region, i * BYTES, BYTES};
		ours->blocks[i] =
			(struct hbm_block){.segments = &ours->segments[i], .segment_count = 1};
		ours->blocks[i].key.bytes[0] = (unsigned char)(i + 1);
	}

	ours_check(ours, hbm_store(ours->hbm, ours->ns, ours->blocks, KEYS, results));
}

static void ours_run(struct ours *ours, unsigned round, unsigned count)
{
	double start = measure_now();

	for (unsigned i = 0; i < count; i++) {
		hbm_result result;

		ours_check(ours,
			   hbm_load(ours->hbm, ours->ns, &ours->blocks[i % KEYS], 1, &result));
		if (result.status != HBM_OK)
			die("hbmd", hbm_strerror(result.status));
	}
	ours->times[round] = (measure_now() - start) / count * 1e6;
}

int main(int argc, char **argv)
{
	static struct ours ours;
	static struct peer peers[PEERS];
	unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0, peer_count = 0;

	if (count == 0 || argc % 2 != 0 || argc > 2 + 2 * PEERS) {
		fprintf(stderr, "usage: bench_peers N [redis|memcached SOCKET]...\n");
		return 2;
	}

	ours_open(&ours);
	for (int i = 2; i + 1 < argc; i += 2)
		peer_open(&peers[peer_count++], argv[i], argv[i + 1]);

	for (unsigned round = 0; round < ROUNDS; round++) {
		ours_run(&ours, round, count);
		for (unsigned i = 0; i < peer_count; i++)
			peer_run(&peers[i], round, count);
	}

	printf("hbmd %.2f us\n", median(ours.times));
	for (unsigned i = 0; i < peer_count; i++)
		peer_print(&peers[i], ours.times);
	hbm_close(ours.hbm);

	return 0;
}
