/* SPDX-License-Identifier: MIT */
/* Prints the page of `jsonlfsctl report --html`. One thread. */
#ifndef FS_CTL_PAGE_H
#define FS_CTL_PAGE_H

#include "report/report.h"

/* Marks where a page keeps its numbers for the next page; they end with </script>. */
#define CTL_PAGE_DATA "<script type=\"application/json\" id=\"data\">"

/* Documents as the commands print them with --json; all but the first may be NULL. */
struct ctl_page {
	const char *path;
	struct jsonl_report *check, *status, *quarantine, *archive;
	struct jsonl_report *earlier; /* the data of the page before */
};

/* Prints the page on standard output. */
void ctl_page_print(const struct ctl_page *page);

#endif
