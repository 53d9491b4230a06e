/* The power goes at every call of every path. For each state that the disk may then be in
 * (model.h) a new process goes on, and what was durable must be there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"

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
	printf("  %s, power cut %s call %u (%s), %zu bytes on the disk%s: %s\n", scenario->name,
	       j->after ? "after" : "before", j->at,
	       j->at <= MODEL_CALLS ? model_op_names[j->r->m.trace[j->at - 1]] : "the last",
	       size, j->any ? ", blocks in any order" : "", wrong);
	rig_print(after, j->r);
}

/* Runs up to the cut; the disk is judged as it was at that moment. */
static unsigned cut(unsigned at, bool after, const struct model_broken *broken,
		    struct model_fault first)
{
	struct rig *r = malloc(sizeof(*r));
	struct judge j = { .r = r, .at = at, .after = after };
	unsigned calls;

	if (!r)
		abort();
	rig_init(r);
	r->m.faults[0] = (struct model_fault){ .at = at,
					       .kind = after ? MODEL_CUT_AFTER : MODEL_CUT_BEFORE,
					       .keep = (size_t)-1 };
	r->m.faults[1] = first;
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

static void all(const struct model_broken *broken)
{
	for (unsigned s = 0; s < rig_nscenarios; s++) {
		unsigned long bad = violations, before = states, cut_before = cuts;
		unsigned calls;

		scenario = &rig_scenarios[s];
		shown = 0;
		/* A cut behind the last call: everything has been done. */
		calls = cut(MODEL_CALLS + 1, false, broken, (struct model_fault){ 0 });
		for (unsigned at = 1; at <= calls; at++)
			for (int after = 0; after < 2; after++)
				cut(at, after, broken, (struct model_fault){ 0 });
		/* A write that comes back short and is undone, then the power goes. */
		for (unsigned first = 1; first < calls; first++)
			for (unsigned at = first + 1; at <= first + 8; at++)
				cut(at, false, broken,
				    (struct model_fault){ .at = first, .kind = MODEL_SHORT,
							  .keep = 5 });
		if (!broken)
			printf("%-26s %3u calls, %5lu cuts, %8lu states, %lu violations\n",
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
	int missed;

	all(NULL);
	found = violations;
	printf("%lu cuts, %lu states of the disk, %lu violations\n", cuts, states, violations);
	missed = caught("no directory sync", (struct model_broken){ .no_dir_sync = true });
	missed += caught("syncs do nothing", (struct model_broken){ .no_sync = true });
	missed += caught("cut before save", (struct model_broken){ .late_save = true });
	return found || missed ? 1 : 0;
}
