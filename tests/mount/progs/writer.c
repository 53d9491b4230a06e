/* SPDX-License-Identifier: MIT */
/* Appends records of many sizes by bare write(2), cut in awkward places: inside a UTF-8
 * character, inside an escape, before the newline, after the opening brace.
 *
 *   writer FILE ID COUNT SIZE[,SIZE...] PIECES
 *
 * PIECES 1: each record is one write; else that many writes a record. Every call must
 * succeed: the first failure ends it with a message and status 1. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The filler: ends of pieces fall into the middle of these. */
static const char unit[] = "\xe2\x82\xac\\u20ac\\n\xf0\x9f\x98\x80z";

static size_t build(char *buf, const char *id, long n, size_t size)
{
	size_t len = (size_t)sprintf(buf, "{\"id\":\"%s\",\"n\":%ld,\"pad\":\"", id, n);

	while (len + sizeof(unit) - 1 + 3 <= size) {
		memcpy(buf + len, unit, sizeof(unit) - 1);
		len += sizeof(unit) - 1;
	}
	while (len + 3 < size)
		buf[len++] = 'y';
	memcpy(buf + len, "\"}\n", 3);
	return len + 3;
}

static int put(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t got = write(fd, data, len);

		if (got < 0)
			return -errno;
		data += got;
		len -= (size_t)got;
	}
	return 0;
}

int main(int argc, char **argv)
{
	size_t sizes[32], kinds = 0, max = 64;
	long count, pieces;
	char *buf, *rest;
	int fd, err;

	if (argc != 6)
		return 2;
	count = atol(argv[3]);
	rest = argv[4];
	while (*rest && kinds < 32) {
		sizes[kinds] = strtoul(rest, &rest, 10);
		max = sizes[kinds] > max ? sizes[kinds] : max;
		kinds++;
		if (*rest == ',')
			rest++;
	}
	pieces = atol(argv[5]);
	buf = malloc(max + 256);
	fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0666);
	if (fd < 0 || !buf || !kinds)
		return 3;
	for (long n = 1; n <= count; n++) {
		size_t len = build(buf, argv[2], n, sizes[(size_t)n % kinds]);
		size_t at = 0;

		for (long i = 1; i <= pieces; i++) {
			/* The last but one piece ends before the newline, the others in
			 * steps that share no factor with the filler. */
			size_t end = i == pieces ? len
				     : i == pieces - 1
					 ? len - 1
					 : (len * (size_t)i / (size_t)pieces) | 1;

			if (end < at)
				end = at;
			err = put(fd, buf + at, end - at);
			if (err) {
				fprintf(stderr, "record %ld: %s\n", n, strerror(-err));
				return 1;
			}
			at = end;
		}
	}
	if (close(fd)) {
		perror("close");
		return 1;
	}
	free(buf);
	return 0;
}
