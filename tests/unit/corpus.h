/* SPDX-License-Identifier: MIT */
/* Reads the corpus: one case a file, the bytes of one line without its newline. The name
 * says what is expected: KIND.WHAT in accept/ (number-grows: a number at the very end),
 * VERDICT.OFFSET.WHAT in reject/. */
#ifndef TESTS_UNIT_CORPUS_H
#define TESTS_UNIT_CORPUS_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct corpus_case {
	char name[256];
	unsigned char *bytes; /* an allocation of exactly len bytes, when len > 0 */
	size_t len;
};

static inline int corpus_read(const char *tests, const char *kind, const char *name,
			      struct corpus_case *c)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/corpus/%s/%s", tests, kind, name);
	snprintf(c->name, sizeof(c->name), "%s", name);
	f = fopen(path, "rb");
	if (!f || fseek(f, 0, SEEK_END))
		return -1;
	c->len = (size_t)ftell(f);
	rewind(f);
	c->bytes = malloc(c->len ? c->len : 1);
	if (!c->bytes || fread(c->bytes, 1, c->len, f) != c->len)
		return -1;
	fclose(f);
	return 0;
}

/* Calls fn for each case of tests/corpus/`kind`; the number of cases, -1 on an error. */
static inline int corpus_each(const char *tests, const char *kind,
			      void (*fn)(const struct corpus_case *c))
{
	char path[4096];
	struct dirent *entry;
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/corpus/%s", tests, kind);
	dir = opendir(path);
	if (!dir)
		return -1;
	while ((entry = readdir(dir))) {
		struct corpus_case c;

		if (entry->d_name[0] == '.')
			continue;
		if (corpus_read(tests, kind, entry->d_name, &c)) {
			closedir(dir);
			return -1;
		}
		fn(&c);
		free(c.bytes);
		n++;
	}
	closedir(dir);
	return n;
}

#endif
