/* SPDX-License-Identifier: MIT */
/* Which targets of symbolic links could lead out of a vault. */
#include "base/links.h"

#include <string.h>

#include "check.h"

static const struct {
	const char *target;
	size_t inside_from; /* the smallest depth at which it stays inside; 99: none */
} rows[] = {
    {"a", 0},	  {"a/b.jsonl", 0}, {"./a", 0},	       {".", 0},       {"...", 0},
    {"..a", 0},	  {"a..", 0},	    {"..", 1},	       {"../", 1},     {"../a", 1},
    {"./../a", 1}, {"..//a", 1},    {"../../a/b", 2},  {".././../a", 2}, {"/", 99},
    {"/etc/passwd", 99},	    {"a/..", 99},      {"a/../../etc", 99},
    {"../a/../../b", 99},	    {"./a/./..", 99},
};

int main(void)
{
	CHECK(fs_link_depth("a") == 0 && fs_link_depth("a/b/c") == 2);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (size_t depth = 0; depth < 4; depth++)
			CHECK(fs_link_leads_out(depth, rows[i].target) ==
				  (depth < rows[i].inside_from),
			      "%s at %zu", rows[i].target, depth);
	return check_done();
}
