/* SPDX-License-Identifier: MIT */
#include "match/glob.h"

#include <string.h>

size_t jsonl_glob_split(const char *list, const char **next)
{
	size_t n = 0;

	while (list[n] && list[n] != ':')
		n += list[n] == '\\' && list[n + 1] ? 2 : 1;
	*next = list[n] ? list + n + 1 : NULL;
	return n;
}

/* Skips a set. p is behind its [; NULL: the set has no ]. */
static const char *set_skip(const char *p, const char *end)
{
	if (p < end && (*p == '!' || *p == '^'))
		p++;
	if (p < end && *p == ']')
		p++;
	while (p < end && *p != ']')
		p++;
	return p < end ? p + 1 : NULL;
}

static const char *check_set(const char *p, const char *end)
{
	const char *stop = set_skip(p, end);

	if (!stop)
		return "a [ has no ]";
	for (; p < stop; p++) {
		if ((unsigned char)*p >= 0x80)
			return "only ASCII characters may stand between [ and ]";
		if (*p == '/')
			return "a / cannot stand between [ and ]";
		if (p[0] == '-' && p + 1 < stop && p[1] != ']' && p[-1] > p[1])
			return "a range between [ and ] runs backwards";
	}
	return NULL;
}

static const char *check_pattern(const char *p, size_t len)
{
	const char *end = p + len, *why;

	if (len > JSONL_GLOB_MAX)
		return "a pattern is longer than 1024 bytes";
	if (len && end[-1] == '/')
		return "a pattern that ends in / names no file";
	for (; p < end; p++) {
		switch (*p) {
		case '\\':
			if (++p == end)
				return "a \\ stands before nothing";
			break;
		case '/':
			if (p[1] == '/')
				return "two slashes in a row match no path";
			break;
		case '[':
			why = check_set(p + 1, end);
			if (why)
				return why;
			p = set_skip(p + 1, end) - 1;
			break;
		default:
			break;
		}
	}
	return NULL;
}

const char *jsonl_glob_check_list(const char *list)
{
	const char *next = list;

	while (next) {
		const char *pattern = next;
		size_t len = jsonl_glob_split(pattern, &next);
		const char *why = check_pattern(pattern, len);

		if (why)
			return why;
	}
	return NULL;
}

/* Skips one character: a byte and the UTF-8 continuation bytes behind it. */
static const char *char_skip(const char *t, const char *end)
{
	t++;
	while (t < end && ((unsigned char)*t & 0xc0) == 0x80)
		t++;
	return t;
}

/* Returns true when the set contains c. p is behind its [. */
static bool set_has(const char *p, char c)
{
	bool negated = *p == '!' || *p == '^', found = false, first = true;

	for (p += negated; first || *p != ']'; p++, first = false) {
		char low = *p;

		if (p[1] == '-' && p[2] != ']')
			p += 2;
		if (c >= low && c <= *p)
			found = true;
	}
	return found != negated;
}

/* Matches one element of the pattern that is no star, and moves both behind it. */
static bool match_one(const char **pattern, const char **text, const char *end)
{
	const char *p = *pattern, *t = *text;

	if (t == end || !*p)
		return false;
	switch (*p) {
	case '?':
		if (*t == '/')
			return false;
		p++;
		t = char_skip(t, end);
		break;
	case '[':
		if (*t == '/' || !set_has(p + 1, *t))
			return false;
		p = set_skip(p + 1, p + strlen(p));
		t = char_skip(t, end);
		break;
	case '\\':
		p++;
		__attribute__((fallthrough));
	default:
		if (*p++ != *t++)
			return false;
		break;
	}
	*pattern = p;
	*text = t;
	return true;
}

/* Says where to continue when the pattern behind a star did not match: the star takes
 * more. Only the last star is retried: it can take whatever an earlier one could. But a
 * ** is retried after a later *, which cannot take a slash. */
struct retry {
	const char *pattern; /* behind the star; NULL: there was none */
	const char *text;
};

static bool retry_one(struct retry *star, const char *end)
{
	if (!star->pattern || star->text == end || *star->text == '/')
		return false;
	star->text++;
	return true;
}

static bool retry_deep(struct retry *deep, bool whole, const char *end)
{
	const char *slash;

	if (!deep->pattern || deep->text == end)
		return false;
	if (!whole) {
		deep->text++;
		return true;
	}
	slash = memchr(deep->text, '/', (size_t)(end - deep->text));
	if (!slash)
		return false;
	deep->text = slash + 1;
	return true;
}

bool jsonl_glob_match(const char *p, const char *t, size_t len)
{
	struct retry star = {0}, deep = {0};
	const char *end = t + len, *start;
	bool whole = false; /* `deep` takes whole directories only */

	if (*p == '/')
		p++;
	start = p;
	for (;;) {
		if (p[0] == '*' && p[1] == '*') {
			whole = (p == start || p[-1] == '/') && p[2] == '/';
			while (*p == '*')
				p++;
			p += whole;
			deep = (struct retry){p, t};
			star.pattern = NULL;
			continue;
		}
		if (*p == '*') {
			star = (struct retry){++p, t};
			continue;
		}
		if (!*p && t == end)
			return true;
		if (match_one(&p, &t, end))
			continue;
		if (retry_one(&star, end)) {
			p = star.pattern;
			t = star.text;
		} else if (retry_deep(&deep, whole, end)) {
			star.pattern = NULL;
			p = deep.pattern;
			t = deep.text;
		} else {
			return false;
		}
	}
}
