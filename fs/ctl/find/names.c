/* SPDX-License-Identifier: MIT */
#include "ctl/find/names.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/path.h"

static int order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int ctl_names_add(struct ctl_names *n, const char *name)
{
	/* Of pointers. NOLINTNEXTLINE(bugprone-sizeof-expression) */
	if (jsonl_grow(&n->list, &n->cap, n->count + 1, sizeof(*n->list)))
		return -ENOMEM;
	n->list[n->count] = strdup(name);
	return n->list[n->count] ? (n->count++, 0) : -ENOMEM;
}

int ctl_names_read(struct ctl_names *n, int dir,
		   int (*wanted)(void *ctx, const char *name, unsigned char type),
		   void *ctx)
{
	struct dirent *e;
	int rc;
	DIR *d = fs_directory_open(dir, &rc);

	if (!d)
		return rc;
	do {
		errno = 0;
		/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
		e = readdir(d);
		if (!e)
			rc = -errno;
		else if (wanted(ctx, e->d_name, e->d_type))
			rc = ctl_names_add(n, e->d_name);
	} while (e && rc == 0);
	closedir(d);
	ctl_names_sort(n);
	return rc;
}

void ctl_names_sort(struct ctl_names *n)
{
	size_t kept = 0;

	if (n->count)
		qsort(n->list, n->count, sizeof(*n->list), order);
	for (size_t i = 0; i < n->count; i++) {
		if (kept && strcmp(n->list[kept - 1], n->list[i]) == 0)
			free(n->list[i]);
		else
			n->list[kept++] = n->list[i];
	}
	n->count = kept;
}

void ctl_names_free(struct ctl_names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
	*n = (struct ctl_names){0};
}
