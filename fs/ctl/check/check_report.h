/* SPDX-License-Identifier: MIT */
/* Prints the results of `jsonlfsctl check`: lines and a table for people, or one JSON
 * document; and a progress line on a terminal. One thread. */
#ifndef FS_CTL_CHECK_REPORT_H
#define FS_CTL_CHECK_REPORT_H

#include "tools/check.h"
#include "ctl/find/vault.h"

struct check_report;

struct check_report *check_report_new(bool json, bool all);
void check_report_free(struct check_report *r);

/* Notes the vault of the path that is checked next. */
void check_report_vault(struct check_report *r, const struct ctl_vault *v);
/* Returns true when sizes are to be added up beforehand, for percents. */
bool check_report_wants_total(const struct check_report *r);
void check_report_expect(struct check_report *r, uint64_t bytes);

void check_report_begin(struct check_report *r, const char *shown);
void check_report_finding(struct check_report *r, const struct jsonl_finding *f);
void check_report_progress(struct check_report *r, uint64_t bytes);
void check_report_end(struct check_report *r, const struct jsonl_check_counts *counts);
/* Reports a symbolic link that leads out of the vault. */
void check_report_link(struct check_report *r, const char *shown, const char *target);
/* Reports that something could not be read: code is -errno. */
void check_report_error(struct check_report *r, const char *shown, int code);

/* Prints the sum; returns the exit code. */
int check_report_finish(struct check_report *r, char *const *paths, int npaths);

#endif
