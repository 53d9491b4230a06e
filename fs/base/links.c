/* SPDX-License-Identifier: MIT */
#include "base/links.h"

#include <stdbool.h>
#include <string.h>

size_t fs_link_depth(const char *path)
{
	size_t depth = 0;

	for (; *path; path++)
		depth += *path == '/';
	return depth;
}

bool fs_link_leads_out(size_t depth, const char *target)
{
	bool named = false; /* a name that is not ".." has come */
	size_t up = 0;

	if (target[0] == '/')
		return true;
	while (*target) {
		size_t length = strcspn(target, "/");

		if (length == 2 && strncmp(target, "..", 2) == 0) {
			if (named)
				return true;
			up++;
		} else if (length && !(length == 1 && target[0] == '.')) {
			named = true;
		}
		target += length;
		target += strspn(target, "/");
	}
	return up > depth;
}
