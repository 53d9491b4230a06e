/* SPDX-License-Identifier: MIT */
/* Prints the results of `jsonlfsctl repair`: a line for each change and a sum for people,
 * or one JSON document. One thread. */
#ifndef FS_CTL_REPAIR_REPORT_H
#define FS_CTL_REPAIR_REPORT_H

#include "ctl/ctl.h"
#include "tools/repair.h"

struct repair_report;

struct repair_report *repair_report_new(bool json, bool all, bool apply);
void repair_report_free(struct repair_report *r);

/* Begins a file, or begins it anew: changes that were reported before do not count. */
void repair_report_begin(struct repair_report *r, const char *shown);
void repair_report_change(struct repair_report *r, const struct jsonl_repair_change *c);
/* Ends a file. `done`: it was repaired, the original is `kept`, the bad lines are in
 * `bad` ("": the quarantine). Else it was only looked at. */
void repair_report_end(struct repair_report *r, const struct jsonl_repair_counts *counts,
		       bool done, const char *kept, const char *bad);
/* Reports why a file was not repaired or read; `left`: it is damaged and stays so. */
void repair_report_error(struct repair_report *r, const char *shown, const char *text,
			 bool left);
/* Prints the sum; returns the exit code. */
int repair_report_finish(struct repair_report *r);

#endif
