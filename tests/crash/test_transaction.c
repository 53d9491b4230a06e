/* SPDX-License-Identifier: MIT */
/* A block of records is in the log whole or not at all, and what was staged is in one
 * place afterwards: a process that dies, a power cut or a call that fails at every step
 * of transactions between appends of others; and the same at every step of the recovery
 * that follows. For a power cut every state of the log (model.h) is met with the states
 * of the intent and of the staged file. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "transactions.h"

static unsigned long states, violations, shown;
static bool quiet;
/* Of the calls of a recovery, every how-many'th is met by a fault: in a build that is
 * slow not each. */
static unsigned apart = 1;

static void note(const struct run *r, const char *wrong, unsigned at, const char *how)
{
	states++;
	if (!wrong)
		return;
	violations++;
	if (quiet || shown++ > 5)
		return;
	printf("  %s at call %u: %s\n    %.*s\n", how, at, wrong, (int)r->m.files[0].size,
	       r->m.files[0].data);
}

/* Nothing is in the way of this recovery. */
static void conclude(const struct run *from, bool power, unsigned at, const char *how)
{
	struct run *r = malloc(sizeof(*r));

	if (!r)
		abort();
	run_restart(r, from);
	note(r, run_recover(r) ? run_judge(r, power) : "recovery fails", at, how);
	run_deinit(r);
	free(r);
}

/* ---- power cuts ---- */

struct power {
	const struct run *r;
	unsigned at;
	/* Of the intent and, if it is there, of the staged file: */
	bool exists;
	const char *bytes[2];
	size_t len[2];
};

static void power_state(struct model *after, void *ctx)
{
	const struct power *p = ctx;
	struct run *copy = malloc(sizeof(*copy));

	if (!copy)
		abort();
	*copy = *p->r;
	copy->m = *after;
	model_put(&copy->m, 1, p->bytes[0], p->len[0], true);
	if (p->exists)
		model_put(&copy->m, 2, p->bytes[1], p->len[1], true);
	model_put(&copy->m, 3, "", 0, true);
	conclude(copy, true, p->at, "power cut");
	*after = copy->m; /* its buffers may have moved */
	free(copy);
}

static void power_with(struct power *p, bool wide)
{
	struct run *r = (struct run *)p->r;

	r->wide = wide;
	model_power_cuts(&r->m, wide, power_state, p);
	r->wide = false;
}

/* The states of the staged file: as it was synced, as it was written, torn; there or not,
 * where its name was not synced. */
static void power_stages(struct power *p, bool all)
{
	const struct model_file *f = &p->r->m.files[2];
	bool differs = f->size != f->disk_size || memcmp(f->data, f->disk, f->size) != 0;

	for (int exists = 0; exists < 2; exists++) {
		if (exists != f->exists && exists != f->exists_on_disk)
			continue;
		p->exists = exists;
		p->bytes[1] = f->disk;
		p->len[1] = f->disk_size;
		power_with(p, false);
		if (all)
			power_with(p, true);
		if (!exists || !differs)
			continue;
		p->bytes[1] = f->data;
		p->len[1] = f->size;
		power_with(p, false);
		p->len[1] = f->size * 2 / 3;
		power_with(p, false);
	}
}

/* Up to here nothing has been cut off since the last sync, so nothing is unsure. */
static size_t untouched(const struct model_file *f)
{
	size_t len = f->disk_size;

	for (unsigned i = 0; i < f->nmetas; i++)
		if (f->metas[i].size < len)
			len = f->metas[i].size;
	return len;
}

/* Those of the intent: as it was synced, as it was written and, with `all`, some ways in
 * between. */
static void power(struct run *r, unsigned at, bool all)
{
	const struct model_file *f = &r->m.files[1];
	struct power p = {.r = r, .at = at};
	char torn[8192] = {0};

	p.bytes[0] = f->disk;
	p.len[0] = f->disk_size;
	power_stages(&p, all);
	if (f->size == f->disk_size && memcmp(f->data, f->disk, f->size) == 0)
		return;
	p.bytes[0] = f->data;
	p.len[0] = f->size;
	power_stages(&p, all);
	p.bytes[0] = torn;
	for (size_t keep = untouched(f); all && keep < f->size; keep += 1 + f->size / 3) {
		memset(torn, 0, sizeof(torn));
		memcpy(torn, f->data, keep);
		p.len[0] = f->size;
		power_stages(&p, all);
		p.len[0] = keep;
		power_stages(&p, all);
	}
}

/* ---- recovery that is cut off, too ---- */

static const struct model_fault second[] = {
    {.kind = MODEL_CUT_BEFORE},
    {.kind = MODEL_CUT_MIDDLE, .keep = 9},
    {.kind = MODEL_FAIL, .code = EIO},
};

static unsigned recovery_one(const struct run *from, struct model_fault fault)
{
	struct run *r = malloc(sizeof(*r));
	unsigned calls;

	if (!r)
		abort();
	run_restart(r, from);
	r->m.faults[0] = fault;
	r->hindered = fault.kind == MODEL_FAIL;
	run_recover(r);
	calls = r->m.calls;
	if (fault.at && fault.kind != MODEL_FAIL)
		power(r, fault.at, false);
	conclude(r, false, fault.at,
		 fault.kind == MODEL_FAIL ? "failure of recovery" : "death in recovery");
	run_deinit(r);
	free(r);
	return calls;
}

static void recovery_each(const struct run *from)
{
	unsigned calls = recovery_one(from, (struct model_fault){0});

	for (unsigned n = 1; n <= calls; n += apart) {
		for (size_t i = 0; i < sizeof(second) / sizeof(second[0]); i++) {
			struct model_fault fault = second[i];

			fault.at = n;
			recovery_one(from, fault);
		}
	}
}

/* ---- enumerating ---- */

static unsigned one(const struct run_options *opt, struct model_fault fault)
{
	struct run *r = malloc(sizeof(*r));
	bool cut = fault.kind == MODEL_CUT_BEFORE || fault.kind == MODEL_CUT_AFTER ||
		   fault.kind == MODEL_CUT_MIDDLE;
	unsigned calls;

	if (!r)
		abort();
	run_init(r, opt);
	r->m.faults[0] = fault;
	run_programs(r);
	calls = r->m.calls;
	power(r, fault.at, cut);
	/* The process alone is gone; or nothing is, and the next one begins. */
	conclude(r, false, fault.at, cut ? "death" : "failure");
	if (fault.kind == MODEL_CUT_BEFORE ||
	    (fault.kind == MODEL_CUT_MIDDLE && fault.keep > 9))
		recovery_each(r);
	run_deinit(r);
	free(r);
	return calls;
}

static void all(const struct run_options *opt)
{
	static const struct model_fault faults[] = {
	    {.kind = MODEL_CUT_BEFORE},
	    {.kind = MODEL_CUT_AFTER},
	    {.kind = MODEL_CUT_MIDDLE, .keep = 9},
	    {.kind = MODEL_CUT_MIDDLE, .keep = 40},
	    {.kind = MODEL_FAIL, .code = EIO},
	    {.kind = MODEL_FAIL, .code = ENOSPC},
	    {.kind = MODEL_SHORT, .keep = 9},
	};
	unsigned calls = one(opt, (struct model_fault){0});

	for (unsigned at = 1; at <= calls + 1; at++) {
		for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
			struct model_fault fault = faults[i];

			fault.at = at;
			one(opt, fault);
			if (quiet && violations)
				return;
		}
	}
	if (!quiet)
		printf("%u calls, %lu states, %lu violations\n", calls, states,
		       violations);
}

static void caught(const char *what, struct run_options opt)
{
	violations = 0;
	quiet = true;
	all(&opt);
	printf("broken: %-40s %s\n", what, violations ? "noticed" : "NOT noticed");
	CHECK(violations, "%s is not noticed", what);
}

int main(void)
{
	if (getenv("JSONLFS_TEST_SLOWNESS"))
		apart = 5;
	all(&(struct run_options){.keep = false});
	all(&(struct run_options){.keep = true});
	all(&(struct run_options){.keep = true, .rolled_back = true});
	all(&(struct run_options){.ordered = true});
	all(&(struct run_options){.keep = true, .ordered = true});
	all(&(struct run_options){.in_memory = true});
	all(&(struct run_options){.in_memory = true, .ordered = true});
	CHECK(!violations && states > 10000, "%lu of %lu", violations, states);
	caught("no recovery", (struct run_options){.no_recovery = true});
	caught("the intent is not synced",
	       (struct run_options){.broken = {.no_intent_sync = true}});
	caught("syncs do nothing", (struct run_options){.broken = {.no_sync = true}});
	caught("the stage of a block is not removed",
	       (struct run_options){.keep = true, .broken = {.no_unlink = true}});
	caught("the directory is not synced",
	       (struct run_options){.keep = true, .broken = {.no_dir_sync = true}});
	caught("the intent of recovery is not looked for",
	       (struct run_options){.keep = true, .lost_intent = true});
	caught("the mark gets to the disk after the length",
	       (struct run_options){
		   .in_memory = true, .ordered = true, .broken = {.late_mark = true}});
	caught("no recovery of a mark", (struct run_options){.in_memory = true,
							     .ordered = true,
							     .no_recovery = true});
	caught("a stage is removed that was not kept",
	       (struct run_options){.careless = true});
	return check_done();
}
