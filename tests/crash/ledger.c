/* SPDX-License-Identifier: MIT */
#include "ledger.h"

#include <stdio.h>
#include <string.h>

#define LARGE_EACH 61 /* every so many records one is larger */
#define LARGE	   40 /* times */

unsigned ledger_longest(const struct ledger *l)
{
	return 64 + l->size * 2 * LARGE;
}

unsigned ledger_record(const struct ledger *l, uint32_t writer, uint32_t record,
		       char *buf)
{
	uint32_t hash = (writer * 2654435761u) ^ (record * 2246822519u);
	unsigned pad = (hash >> 7) % (2 * l->size);
	int n = sprintf(buf, "{\"w\":%u,\"n\":%u,\"p\":\"", LEDGER_WRITER + writer,
			LEDGER_RECORD + record);

	if (hash % LARGE_EACH == 0)
		pad *= LARGE;
	memset(buf + n, 'a' + (int)(hash % 26), pad);
	memcpy(buf + n + pad, "\"}\n", 4);
	return (unsigned)n + pad + 3;
}
