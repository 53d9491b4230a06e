/* SPDX-License-Identifier: MIT */
#include "match/pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "match/glob.h"

static bool is_literal(const char *s)
{
	return !strpbrk(s, "*?[\\/");
}

/* Skips leading "**" "/": they change nothing before a pattern of a file name. */
static const char *skip_any_directory(const char *text)
{
	while (strncmp(text, "**/", 3) == 0)
		text += 3;
	return text;
}

static int pattern_init(struct jsonl_pattern *p, const char *text, size_t len)
{
	const char *s, *slash;

	p->text = strndup(text, len);
	if (!p->text)
		return -ENOMEM;
	s = skip_any_directory(p->text);
	slash = strrchr(s, '/');
	p->path = slash != NULL;
	p->last = slash ? slash + 1 : s;
	if (strstr(p->last, "**") && p->path)
		p->last = NULL;
	if (!p->path) {
		memmove(p->text, s, strlen(s) + 1);
		p->last = p->text;
	}
	if (!p->path && p->text[0] == '*' && is_literal(p->text + 1)) {
		p->ending = p->text + 1;
		p->ending_len = strlen(p->ending);
	}
	return 0;
}

int jsonl_patterns_init(struct jsonl_patterns *ps, const char *list)
{
	const char *next = list;
	size_t most = 1;

	for (const char *c = list; *c; c++)
		most += *c == ':';
	ps->items = calloc(most, sizeof(*ps->items));
	if (!ps->items)
		return -ENOMEM;
	while (next) {
		const char *text = next;
		size_t len = jsonl_glob_split(text, &next);
		int r;

		if (len == 0)
			continue;
		r = pattern_init(&ps->items[ps->n], text, len);
		if (r)
			return r;
		ps->path = ps->path || ps->items[ps->n].path;
		ps->n++;
	}
	return 0;
}

void jsonl_patterns_deinit(struct jsonl_patterns *ps)
{
	for (size_t i = 0; i < ps->n; i++)
		free(ps->items[i].text);
	free(ps->items);
}

static bool name_matches(const struct jsonl_pattern *p, const char *glob,
			 const char *name, size_t len)
{
	if (p->ending)
		return len >= p->ending_len &&
		       memcmp(name + len - p->ending_len, p->ending, p->ending_len) == 0;
	return !glob || jsonl_glob_match(glob, name, len);
}

bool jsonl_patterns_match(const struct jsonl_patterns *ps, const char *path, size_t base,
			  size_t len)
{
	for (size_t i = 0; i < ps->n; i++) {
		const struct jsonl_pattern *p = &ps->items[i];

		if (p->path ? jsonl_glob_match(p->text, path, len)
			    : name_matches(p, p->text, path + base, len - base))
			return true;
	}
	return false;
}

bool jsonl_patterns_may_match(const struct jsonl_patterns *ps, const char *name,
			      size_t len)
{
	for (size_t i = 0; i < ps->n; i++) {
		if (name_matches(&ps->items[i], ps->items[i].last, name, len))
			return true;
	}
	return false;
}

bool jsonl_patterns_match_own(const struct jsonl_patterns *ps, const char *path,
			      size_t base, size_t len, size_t stem)
{
	for (size_t i = 0; i < ps->n; i++) {
		const struct jsonl_patterns one = {.items = &ps->items[i], .n = 1};

		if (jsonl_patterns_match(&one, path, base, len) &&
		    !jsonl_patterns_match(&one, path, base, stem))
			return true;
	}
	return false;
}
