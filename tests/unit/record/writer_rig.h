/* SPDX-License-Identifier: MIT */
/* What the tests of the writer share: one handle over a file of the model, and what it
 * gave to the quarantine, the counters and the memory account. */
#ifndef TESTS_UNIT_WRITER_RIG_H
#define TESTS_UNIT_WRITER_RIG_H

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "record/known.h"
#include "rules/config.h"
#include "model.h"
#include "record/writer_internal.h"

#define RIG static __attribute__((unused))

#define ENTRIES 1024
/* What each slot weighs from the third of a handle on. */
#define SLOT_FIXED ((int64_t)sizeof(struct jsonl_slot) + JSONL_FRAME_KEEP)

struct entry {
	char event[16];
	int code;
	uint64_t offset;
	unsigned lines;
	int64_t at;
	char bytes[16384];
	size_t len;
};

static struct model m;
static struct jsonl_file *file;
static struct jsonl_writer *writer;
static struct entry entries[ENTRIES];
static unsigned nentries, identified;
static bool quarantine_full;
static int64_t charged, charge_max;
static struct jsonl_writer_note noted;
static struct jsonl_writer_options options;
static struct jsonl_known *known;

/* ---- what the writer asks for ---- */

static void *rig_identify(void *ctx, void *caller)
{
	identified++;
	return caller;
}

static uint64_t rig_process(void *ctx, void *caller)
{
	return (uint64_t)(uintptr_t)caller;
}

static bool rotated; /* its log was another file before */

static bool rig_goes_on(void *ctx, void *who)
{
	return rotated;
}

static bool rig_known(void *ctx, uint64_t process, uint64_t hash, size_t len, bool add)
{
	struct jsonl_known_line line = {.source = process, .hash = hash, .len = len};

	return jsonl_known_find(known, 0, &line, add);
}

static void entry_add(struct entry *e, const struct iovec *iov, int niov)
{
	for (int i = 0; i < niov; i++) {
		if (e->len + iov[i].iov_len > sizeof(e->bytes))
			abort();
		if (iov[i].iov_len)
			memcpy(e->bytes + e->len, iov[i].iov_base, iov[i].iov_len);
		e->len += iov[i].iov_len;
	}
}

static void rig_set_aside(void *ctx, const struct jsonl_set_aside *what,
			  char name[JSONL_QUARANTINE_NAME])
{
	struct entry *e = &entries[nentries];

	if (nentries++ == ENTRIES)
		abort();
	*e = (struct entry){.code = what->code,
			    .offset = what->offset,
			    .lines = what->lines,
			    .at = what->at};
	snprintf(e->event, sizeof(e->event), "%s", what->event);
	entry_add(e, what->iov, what->niov);
	name[0] = '\0';
	if (!quarantine_full)
		snprintf(name, JSONL_QUARANTINE_NAME, "%u", nentries - 1);
}

static void rig_join(void *ctx, const char *name, const struct iovec *iov, int niov,
		     void *who)
{
	unsigned n = (unsigned)atoi(name);

	if (CHECK(name[0] && n < nentries, "joined to an entry that is not there"))
		entry_add(&entries[n], iov, niov);
}

static int rig_charge(void *ctx, int64_t bytes)
{
	if (bytes > 0 && charge_max && charged + bytes > charge_max)
		return -ENOBUFS;
	charged += bytes;
	return 0;
}

static void rig_note(void *ctx, const struct jsonl_writer_note *note, void *who)
{
	noted.records += note->records;
	noted.bytes += note->bytes;
	noted.oversize += note->oversize;
	noted.blank += note->blank;
	noted.marks += note->marks;
	noted.split |= note->split;
	noted.no_newline |= note->no_newline;
	if (note->largest > noted.largest)
		noted.largest = note->largest;
}

static const struct jsonl_writer_events rig_events = {
    .identify = rig_identify,
    .process = rig_process,
    .known = rig_known,
    .goes_on = rig_goes_on,
    .set_aside = rig_set_aside,
    .join = rig_join,
    .charge = rig_charge,
    .note = rig_note,
};

static int file_set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
			  int niov, off_t at, uint64_t offset)
{
	return 0;
}

static void file_report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
}

static const struct jsonl_file_events file_events = {.set_aside = file_set_aside,
						     .report = file_report};

/* ---- a handle ---- */

static void reset(void)
{
	options = (struct jsonl_writer_options){
	    .limits = {.maxdepth = 16, .maxrecord = 4096, .pipebuf = 64},
	    .onbad = JSONL_ONBAD_REPORT,
	};
}

static void begin(const char *content)
{
	struct jsonl_file_options opt = {
	    .maxrecord = 4096, .maxdepth = 16, .retain = true};

	model_init(&m);
	model_put(&m, 0, content, strlen(content), true);
	nentries = identified = 0;
	charged = charge_max = 0;
	quarantine_full = false;
	noted = (struct jsonl_writer_note){0};
	CHECK(jsonl_file_new(&m.io, model_open(&m, 0, O_RDONLY, false), &opt,
			     &file_events, NULL, &file) == 0);
	jsonl_file_set_append_fd(file, model_open(&m, 0, O_RDWR | O_APPEND, false), true);
	CHECK(jsonl_known_new(&known) == 0);
	options.seed = jsonl_known_seed(known);
	CHECK(jsonl_writer_new(file, &options, &rig_events, NULL, (off_t)strlen(content),
			       &writer) == 0);
}

/* Releases what is pending; the memory account must come out even. */
static void end_rig(void)
{
	bool committed;

	m.files[0].lock = 0;
	CHECK(jsonl_writer_release(writer, true, &committed) == 0);
	jsonl_writer_free(writer);
	CHECK(charged == 0, "%lld bytes", (long long)charged);
	jsonl_file_free(file);
	jsonl_known_free(known);
}

static void end_model(void)
{
	model_deinit(&m);
}

static void end(void)
{
	end_rig();
	end_model();
}

/* A process goes by the number of its file table, unless a test says otherwise. */
RIG void *process(uint64_t number)
{
	return (void *)(uintptr_t)number;
}

RIG int flush(uint64_t owner)
{
	return jsonl_writer_flush(writer, owner, process(owner));
}

RIG int settle(uint64_t owner)
{
	return jsonl_writer_settle(writer, process(owner));
}

/* One write(2) of one process with O_APPEND. Every request is a copy of its exact size.
 */
RIG int write_len(uint64_t owner, const char *data, size_t len)
{
	char *copy = malloc(len ? len : 1);
	int rc;

	memcpy(copy, data, len);
	rc = jsonl_writer_write(writer, owner, process(owner), true,
				(off_t)m.files[0].size, copy, len);
	free(copy);
	return rc;
}

RIG int put(uint64_t owner, const char *text)
{
	return write_len(owner, text, strlen(text));
}

RIG int put_at(uint64_t owner, off_t off, const char *text)
{
	return jsonl_writer_write(writer, owner, process(owner), false, off, text,
				  strlen(text));
}

RIG bool holds(const char *content)
{
	const struct model_file *f = &m.files[0];
	bool same = f->size == strlen(content) && !memcmp(f->data, content, f->size);

	if (!same)
		printf("  the file holds: %.*s|\n", (int)f->size, f->data);
	return same;
}

RIG bool entry_is(unsigned n, const char *event, int code, uint64_t offset,
		  const char *bytes)
{
	const struct entry *e = &entries[n];
	bool same = n < nentries && !strcmp(e->event, event) && e->code == code &&
		    e->offset == offset && e->len == strlen(bytes) &&
		    !memcmp(e->bytes, bytes, e->len);

	if (!same && n < nentries)
		printf("  entry %u: %s, %s, byte %d: %.*s|\n", n, e->event,
		       jsonl_error_name(e->code), (int)e->offset, (int)e->len, e->bytes);
	else if (!same)
		printf("  no entry %u\n", n);
	return same;
}

RIG unsigned calls_of(enum model_op op)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m.calls && i < MODEL_CALLS; i++)
		n += m.trace[i] == op;
	return n;
}

#endif
