/* SPDX-License-Identifier: MIT */
/* Every call of every path cut before, in the middle and after, failed with each errno,
 * or shortened; alone, and in pairs. Then a new process goes on over what is left, and
 * the invariant of rig.h must hold: both for what the page cache has, since only the
 * process died, and for every state that a power cut may leave (test_power.c). */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

static const int codes[] = {EIO, ENOSPC, EDQUOT, EINTR, EFBIG, EAGAIN};
static const enum model_loss losses[] = {MODEL_LOSE_DATA, MODEL_LOSE_ALL,
					 MODEL_LOSE_NONE};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

#define ENOUGH 100 /* violations that show that a broken promise is noticed */

static unsigned long runs, violations, shown, census[MODEL_OPS];
static const struct rig_scenario *scenario;

struct plan {
	struct model_fault faults[2];
	enum model_loss loss;
	unsigned outside_at;
	bool outside_locks;
};

static const char *const kinds[] = {"none",  "cut before",  "cut within", "cut after",
				    "fails", "fails after", "short"};

static void show(const struct plan *p, const struct rig *r, const char *wrong)
{
	printf("  %s: %s\n", scenario->name, wrong);
	for (int i = 0; i < 2; i++)
		if (p->faults[i].at)
			printf("    call %u %s: %s, %s, %zu bytes\n", p->faults[i].at,
			       p->faults[i].at <= MODEL_CALLS
				   ? model_op_names[r->m.trace[p->faults[i].at - 1]]
				   : "?",
			       kinds[p->faults[i].kind],
			       p->faults[i].code ? strerror(p->faults[i].code) : "-",
			       p->faults[i].keep);
	if (p->outside_at)
		printf("    a program outside at call %u%s\n", p->outside_at,
		       p->outside_locks ? " with the lock" : "");
	rig_print(&r->m, r);
}

/* ---- programs outside the mount ---- */

#define OUTSIDE_CALLS 3 /* that it holds the lock */

static void outside_step(struct model *m, enum model_op op)
{
	struct rig *r = m->ctx;
	unsigned now = m->calls + 1;
	struct model_file *f = &m->files[0];

	if (!r->outside_locks) {
		if (now == r->outside_at)
			model_outside(m, 0, "{\"outside\":1}\n", 14);
		return;
	}
	if (!r->outside_half && now >= r->outside_at && r->outside_at && !f->lock) {
		f->lock = -1;
		model_outside(m, 0, "{\"outs", 6);
		r->outside_half = true;
		r->outside_at = now;
	} else if (r->outside_half && now >= r->outside_at + OUTSIDE_CALLS &&
		   r->outside_at) {
		model_outside(m, 0, "ide\":1}\n", 8);
		f->lock = f->lock == -1 ? 0 : f->lock;
		r->outside_at = 0;
	}
}

/* ---- one run ---- */

static unsigned run(const struct plan *p, const struct model_broken *broken)
{
	struct rig *r = malloc(sizeof(*r));
	const char *wrong;
	unsigned calls;

	if (!r)
		abort();
	rig_init(r);
	memcpy(r->m.faults, p->faults, sizeof(p->faults));
	r->m.loss = p->loss;
	if (broken)
		r->m.broken = *broken;
	if (p->outside_at) {
		r->m.before = outside_step;
		r->m.ctx = r;
		r->outside = true;
		r->outside_at = p->outside_at;
		r->outside_locks = p->outside_locks;
		rig_note(r, "{\"outside\":1}\n", RIG_TRIED);
	}
	scenario->run(r);
	calls = r->m.calls;
	runs++;
	for (unsigned i = 0; i < 2; i++)
		if (p->faults[i].at && p->faults[i].at <= calls)
			census[r->m.trace[p->faults[i].at - 1]]++;
	if (r->outside_half && r->outside_at) /* it finishes what it began */
		model_outside(&r->m, 0, "ide\":1}\n", 8);
	wrong = rig_recover(r, false);
	if (wrong) {
		violations++;
		if (!broken && shown++ < 5)
			show(p, r, wrong);
	}
	rig_deinit(r);
	free(r);
	return calls;
}

/* ---- all of them ---- */

/* Faults of one call; calls fn for each. */
static void each_fault(unsigned at, bool brief,
		       void (*fn)(struct plan *p, const struct model_broken *broken),
		       const struct model_broken *broken)
{
	static const size_t keeps[] = {1,  2,  3,  5,  9,  14, 17,
				       18, 19, 25, 33, 40, 49, 65000};
	struct plan p = {.faults[0] = {.at = at}};

	for (int kind = MODEL_CUT_BEFORE; kind <= MODEL_SHORT; kind++) {
		bool keep = kind == MODEL_CUT_MIDDLE || kind == MODEL_SHORT;
		bool fail = kind == MODEL_FAIL || kind == MODEL_FAIL_AFTER;

		if (brief && (kind == MODEL_CUT_MIDDLE || kind == MODEL_FAIL_AFTER))
			continue;
		p.faults[0].kind = kind;
		for (size_t i = 0; i < (keep && !brief ? COUNT(keeps) : 1); i++) {
			p.faults[0].keep = keep ? keeps[brief ? 4 : i] : (size_t)-1;
			for (size_t c = 0; c < (fail ? (brief ? 2 : COUNT(codes)) : 1);
			     c++) {
				/* Only a write is begun and not ended; what says "again"
				 * has done nothing. */
				if (kind == MODEL_FAIL_AFTER && codes[c] != EIO)
					continue;
				p.faults[0].code = fail ? codes[c] : 0;
				for (size_t l = 0; l < (fail ? COUNT(losses) : 1); l++) {
					p.loss = losses[l];
					fn(&p, broken);
				}
			}
		}
	}
}

static void one(struct plan *p, const struct model_broken *broken)
{
	run(p, broken);
}

/* A second fault at any of the calls that follow. */
static void pairs(struct plan *p, const struct model_broken *broken)
{
	unsigned calls = run(p, broken);

	if (p->faults[0].kind != MODEL_FAIL && p->faults[0].kind != MODEL_SHORT)
		return;
	for (unsigned at = p->faults[0].at + 1; at <= calls; at++) {
		static const enum model_fault_kind seconds[] = {
		    MODEL_CUT_BEFORE, MODEL_CUT_AFTER, MODEL_FAIL};

		for (size_t k = 0; k < COUNT(seconds); k++) {
			struct plan both = *p;

			both.faults[1] = (struct model_fault){
			    .at = at,
			    .kind = seconds[k],
			    .code = seconds[k] == MODEL_FAIL ? ENOSPC : 0,
			    .keep = (size_t)-1};
			run(&both, broken);
		}
	}
}

static void outsiders(const struct model_broken *broken, unsigned calls)
{
	for (int locks = 0; locks < 2; locks++)
		for (unsigned at = 1; at <= calls + 3; at++)
			run(&(struct plan){.outside_at = at, .outside_locks = locks},
			    broken);
}

static void all(const struct model_broken *broken)
{
	for (unsigned s = 0; s < rig_nscenarios && !(broken && violations > ENOUGH);
	     s++) {
		unsigned long before = runs, bad = violations;
		unsigned calls;

		scenario = &rig_scenarios[s];
		shown = 0;
		calls = run(&(struct plan){0}, broken);
		for (unsigned at = 1; at <= calls; at++)
			each_fault(at, false, one, broken);
		for (unsigned at = 1; at <= calls; at++)
			each_fault(at, true, pairs, broken);
		outsiders(broken, calls);
		if (!broken)
			printf("%-28s %3u calls, %6lu runs, %lu violations\n",
			       scenario->name, calls, runs - before, violations - bad);
	}
}

static void print_census(void)
{
	printf("faults by call:");
	for (int op = 0; op < MODEL_OPS; op++)
		if (census[op])
			printf(" %s %lu", model_op_names[op], census[op]);
	printf("\n");
}

/* The rig must see what is wrong when a promise is broken under it. */
static int caught(const char *what, struct model_broken broken)
{
	violations = 0;
	all(&broken);
	printf("broken: %-22s %lu violations%s\n", what, violations,
	       violations ? "" : " - NOT CAUGHT");
	return violations == 0;
}

int main(void)
{
	unsigned long found;
	int missed;

	/* Files come and go by the thousand. */
	mallopt(M_MMAP_THRESHOLD, 1 << 26);
	mallopt(M_TRIM_THRESHOLD, 1 << 28);
	all(NULL);
	print_census();
	found = violations;
	printf("%lu runs, %lu violations\n", runs, violations);
	missed = caught("no undo", (struct model_broken){.no_undo = true});
	missed += caught("no lock", (struct model_broken){.no_lock = true});
	missed += caught("cut before save", (struct model_broken){.late_save = true});
	missed += caught("syncs do nothing", (struct model_broken){.no_sync = true});
	missed +=
	    caught("retried and believed", (struct model_broken){.retried_sync = true});
	missed +=
	    caught("verified from the cache", (struct model_broken){.no_drop = true});
	return found || missed ? 1 : 0;
}
