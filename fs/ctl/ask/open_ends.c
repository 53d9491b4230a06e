/* SPDX-License-Identifier: MIT */
#include "ctl/ask/open_ends.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "ctl/find/vault.h"

#define OPEN_ENDS_SHOWN 20

static bool lacks_newline(const struct ctl_vault *v, const char *path)
{
	cleanup_close int fd = ctl_open_file(v->root_fd, path, O_RDONLY, 0);
	struct stat st;
	char last;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 &&
	       pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
}

static int path_order(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Collects the paths in writers.json that were closed without a newline, sorted. Returns
 * their number; 0 also when out of memory. */
static size_t candidates(const struct jsonl_report *writers, const char ***paths)
{
	const struct jsonl_report *list = jsonl_report_get(writers, "writers"), *w;
	size_t n = jsonl_report_length(list), count = 0;

	*paths = n ? malloc(n * sizeof(const char *)) : NULL;
	for (size_t i = 0; *paths && (w = jsonl_report_at(list, i)); i++) {
		const char *path = jsonl_report_get_string(w, "path");

		if (path && jsonl_report_get_uint(w, "closes_without_newline"))
			(*paths)[count++] = path;
	}
	if (count)
		qsort(*paths, count, sizeof(const char *), path_order);
	return count;
}

static void print_paths(const struct ctl_vault *v, const char **paths, size_t count)
{
	size_t shown = 0;

	for (size_t i = 0; i < count; i++) {
		if ((i && strcmp(paths[i], paths[i - 1]) == 0) ||
		    !lacks_newline(v, paths[i]))
			continue;
		if (!shown)
			puts("\nlogs without their last newline, which the next append through "
			     "the mount brings: a program outside could join its record to "
			     "the last one");
		if (shown++ == OPEN_ENDS_SHOWN) {
			puts("  and others: jsonlfsctl check lists all");
			return;
		}
		(void)fputs("  ", stdout);
		(void)ctl_print_name(stdout, paths[i]);
		putchar('\n');
	}
}

void ctl_print_open_ends(const char *path)
{
	struct jsonl_report *writers = NULL;
	const char **paths = NULL;
	struct ctl_vault v;
	size_t count;
	char *text;
	int rc;

	if (ctl_vault_find(path, &v) < 0)
		return;
	text = ctl_vault_read(&v, "writers.json", &rc);
	writers = text ? jsonl_report_parse(text) : NULL;
	count = writers ? candidates(writers, &paths) : 0;
	print_paths(&v, paths, count);
	free(paths);
	jsonl_report_free(writers);
	free(text);
	ctl_vault_free(&v);
}
