/* SPDX-License-Identifier: MIT */
/* What programs do while a fault meets them: each path of the library that touches a
 * file. Small on purpose, since every call, every byte and every state of the disk is
 * tried. */
#include <string.h>

#include "rig.h"

static const char base[] = "{\"base\":1}\n";

static void with_base(struct rig *r)
{
	model_put(&r->m, 0, base, strlen(base), true);
	rig_note(r, base, RIG_SYNCED);
}

static void run_new(struct rig *r)
{
	rig_open(r, false);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 0);
	rig_append(r, 1, 1, 0);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 1);
	rig_sync(r, 0);
	rig_close(r);
}

static void run_append(struct rig *r)
{
	with_base(r);
	rig_open(r, false);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 0);
	rig_append(r, 0, 1, 40);
	rig_append(r, 1, 1, 0);
	rig_sync(r, 0);
	rig_sync(r, 1);
	rig_close(r);
}

static void run_multi(struct rig *r)
{
	with_base(r);
	rig_open(r, false);
	rig_append(r, 0, 3, 0);
	rig_sync(r, 0);
	rig_append(r, 0, 2, 50);
	rig_sync(r, 0);
	rig_close(r);
}

/* Long enough for room to be reserved first. */
static void run_large(struct rig *r)
{
	model_set_block(&r->m, 4096);
	with_base(r);
	rig_open(r, false);
	rig_append(r, 0, 1, 70000);
	rig_sync(r, 0);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 0);
	rig_close(r);
}

/* More syncs than one, so that what follows a failed one is met. */
static void run_sync(struct rig *r)
{
	with_base(r);
	rig_open(r, false);
	rig_append(r, 0, 1, 0);
	rig_append(r, 1, 1, 40);
	rig_sync(r, 0);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 1);
	rig_sync(r, 0);
	rig_append(r, 1, 1, 0);
	rig_sync(r, 1);
	rig_close(r);
}

static void tail(struct rig *r, bool first, const char *bytes, size_t len)
{
	if (!first)
		with_base(r);
	model_put(&r->m, 0, bytes, len, true);
	memcpy(r->torn, bytes, len);
	r->ntorn = len;
	r->tail = true;
	rig_open(r, true);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 0);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 0);
	rig_close(r);
}

static void run_tail_half(struct rig *r)
{
	tail(r, false, "{\"half\":[1,", 11);
}

static void run_tail_utf8(struct rig *r)
{
	tail(r, false, "{\"\xe2\x82", 4);
}

static void run_tail_nul(struct rig *r)
{
	tail(r, false, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 17);
}

static void run_tail_number(struct rig *r)
{
	tail(r, false, "12", 2);
}

static void run_tail_first(struct rig *r)
{
	tail(r, true, "{\"first\":tru\0\0\0", 15);
}

static void tail_valid(struct rig *r, const char *line)
{
	with_base(r);
	model_put(&r->m, 0, line, strlen(line) - 1, true);
	r->tail = true;
	rig_note(r, line, RIG_KEPT);
	rig_open(r, true);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 0);
	rig_append(r, 0, 1, 0);
	rig_sync(r, 0);
	rig_close(r);
}

static void run_tail_valid(struct rig *r)
{
	tail_valid(r, "{\"whole\":2}\n");
}

/* The newline that is added is the last byte of a block, so no later append rewrites it.
 */
static void run_tail_block(struct rig *r)
{
	model_set_block(&r->m, 35); /* 11 bytes of the first line, 24 of this one */
	tail_valid(r, "{\"whole\":2,\"block\":345}\n");
}

/* Records in pieces, one without its newline, and one that is never finished. */
static void run_writer(struct rig *r)
{
	with_base(r);
	rig_open(r, false);
	rig_expect(r, "{\"w\":1}\n");
	rig_write(r, 7, "{\"w\"");
	rig_write(r, 7, ":1}\n");
	rig_flush(r, 7);
	rig_expect(r, "{\"w\":2}\n");
	rig_write(r, 8, "{\"w\":2}");
	rig_flush(r, 8);
	rig_write(r, 9, "\n");
	rig_expect(r, "{\"w\":3}\n");
	rig_expect(r, "{\"w\":4}\n");
	rig_write(r, 9, "{\"w\":3}\n{\"w\":4}\n{\"unfini");
	rig_flush(r, 9);
	rig_close(r);
}

static void run_writer_release(struct rig *r)
{
	rig_open(r, false);
	rig_expect(r, "[1]\n");
	rig_write(r, 7, "[1]\n");
	rig_flush(r, 7);
	rig_expect(r, "42\n");
	rig_write(r, 7, "42");
	rig_release(r);
	rig_append(r, 1, 1, 0);
	rig_sync(r, 1);
	rig_close(r);
}

const struct rig_scenario rig_scenarios[] = {
    {"new file", run_new},
    {"append", run_append},
    {"several records", run_multi},
    {"large record", run_large},
    {"syncs", run_sync},
    {"tail: half a record", run_tail_half},
    {"tail: half a character", run_tail_utf8},
    {"tail: NULs", run_tail_nul},
    {"tail: a number", run_tail_number},
    {"tail: the first line", run_tail_first},
    {"tail: a newline missing", run_tail_valid},
    {"tail: a newline in its block", run_tail_block},
    {"writer: pieces", run_writer},
    {"writer: release", run_writer_release},
};
const unsigned rig_nscenarios = sizeof(rig_scenarios) / sizeof(rig_scenarios[0]);
