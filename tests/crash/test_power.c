/* SPDX-License-Identifier: MIT */
/* The power goes at every call of every path. For each state that the disk may then be in
 * (model.h) a new process goes on, and what was durable must be there. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

/* Calls after a failed one at each of which the power goes; JSONLFS_LONG in the
 * environment asks for more, a build that is slow for fewer. */
static unsigned following = 8;

#define ENOUGH 100 /* violations that show that a broken promise is noticed */

static unsigned long cuts, states, violations, shown;
static const struct rig_scenario *scenario;
static bool quiet;

struct judge {
	const struct rig *r;
	bool any;
	unsigned at;
	bool after;
};

static void judge_state(struct model *after, void *ctx)
{
	const struct judge *j = ctx;
	size_t size = after->files[0].size;
	const char *wrong = rig_recover_from(j->r, after, j->any);

	states++;
	if (!wrong)
		return;
	violations++;
	if (quiet || shown++ >= 5)
		return;
	printf("  %s, power cut %s call %u (%s), %zu bytes on the disk%s: %s\n",
	       scenario->name, j->after ? "after" : "before", j->at,
	       j->at <= MODEL_CALLS ? model_op_names[j->r->m.trace[j->at - 1]]
				    : "the last",
	       size, j->any ? ", blocks in any order" : "", wrong);
	rig_print(after, j->r);
}

/* Runs up to the cut; the disk is judged as it was at that moment. */
static unsigned cut(unsigned at, bool after, const struct model_broken *broken,
		    struct model_fault first, enum model_loss loss)
{
	struct rig *r = malloc(sizeof(*r));
	struct judge j = {.r = r, .at = at, .after = after};
	unsigned calls;

	if (!r)
		abort();
	rig_init(r);
	r->m.faults[0] =
	    (struct model_fault){.at = at,
				 .kind = after ? MODEL_CUT_AFTER : MODEL_CUT_BEFORE,
				 .keep = (size_t)-1};
	r->m.faults[1] = first;
	r->m.loss = loss;
	if (broken)
		r->m.broken = *broken;
	scenario->run(r);
	calls = r->m.calls;
	rig_close(r);
	cuts++;
	model_power_cuts(&r->m, false, judge_state, &j);
	j.any = true;
	model_power_cuts(&r->m, true, judge_state, &j);
	rig_deinit(r);
	free(r);
	return calls;
}

/* A call fails, then the power goes at one of those that follow. */
static void after_failures(const struct model_broken *broken, unsigned calls)
{
	static const struct {
		struct model_fault fault;
		enum model_loss loss;
	} firsts[] = {
	    {{.kind = MODEL_SHORT, .keep = 5}, MODEL_LOSE_NONE},
	    {{.kind = MODEL_FAIL, .code = EIO}, MODEL_LOSE_DATA},
	    {{.kind = MODEL_FAIL, .code = EIO}, MODEL_LOSE_ALL},
	    {{.kind = MODEL_FAIL, .code = ENOSPC}, MODEL_LOSE_NONE},
	};

	for (unsigned i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++)
		for (unsigned first = 1; first <= calls; first++)
			for (unsigned at = first + 1; at <= first + following; at++) {
				struct model_fault fault = firsts[i].fault;

				fault.at = first;
				cut(at, false, broken, fault, firsts[i].loss);
			}
}

static void all(const struct model_broken *broken)
{
	for (unsigned s = 0; s < rig_nscenarios && !(broken && violations > ENOUGH);
	     s++) {
		unsigned long bad = violations, before = states, cut_before = cuts;
		const struct model_fault none = {0};
		unsigned calls;

		scenario = &rig_scenarios[s];
		shown = 0;
		/* A cut behind the last call: everything has been done. */
		calls = cut(MODEL_CALLS + 1, false, broken, none, MODEL_LOSE_NONE);
		for (unsigned at = 1; at <= calls; at++)
			for (int after = 0; after < 2; after++)
				cut(at, after, broken, none, MODEL_LOSE_NONE);
		after_failures(broken, calls);
		if (!broken)
			printf(
			    "%-28s %3u calls, %5lu cuts, %8lu states, %lu violations\n",
			    scenario->name, calls, cuts - cut_before, states - before,
			    violations - bad);
	}
}

static int caught(const char *what, struct model_broken broken)
{
	violations = 0;
	quiet = true;
	all(&broken);
	printf("broken: %-22s %lu violations%s\n", what, violations,
	       violations ? "" : " - NOT CAUGHT");
	return violations == 0;
}

int main(void)
{
	unsigned long found;
	const bool slow = getenv("JSONLFS_TEST_SLOWNESS") != NULL;
	int missed = 0;

	if (getenv("JSONLFS_LONG"))
		following = 40;
	else if (slow)
		following = 1;
	/* Files come and go by the thousand. */
	mallopt(M_MMAP_THRESHOLD, 1 << 26);
	mallopt(M_TRIM_THRESHOLD, 1 << 28);
	all(NULL);
	found = violations;
	printf("%lu cuts, %lu states of the disk, %lu violations\n", cuts, states,
	       violations);
	/* What the judge notices is the same in any build. */
	if (slow)
		return found ? 1 : 0;
	missed += caught("no directory sync", (struct model_broken){.no_dir_sync = true});
	missed += caught("syncs do nothing", (struct model_broken){.no_sync = true});
	missed +=
	    caught("retried and believed", (struct model_broken){.retried_sync = true});
	missed +=
	    caught("verified from the cache", (struct model_broken){.no_drop = true});
	missed += caught("cut before save", (struct model_broken){.late_save = true});
	return found || missed ? 1 : 0;
}
