/* SPDX-License-Identifier: MIT */
#include "match/generation.h"

#include <string.h>

/* The forms of a date with a time, longest parts spelt out: Y a digit, MM DD hh mm ss two
 * digits in range, ? one of T _ -, anything else itself. */
static const char *const stamps[] = {
    "YYYYMMDD",
    "YYYYMMDDhh",
    "YYYYMMDDhhmm",
    "YYYYMMDDhhmmss",
    "YYYYMMDD?hh",
    "YYYYMMDD?hhmm",
    "YYYYMMDD?hhmmss",
    "YYYYMMDD?hh:mm",
    "YYYYMMDD?hh:mm:ss",
    "YYYYMMDD?hh-mm",
    "YYYYMMDD?hh-mm-ss",
    "YYYY-MM-DD",
    "YYYY-MM-DD?hh",
    "YYYY-MM-DD?hhmm",
    "YYYY-MM-DD?hhmmss",
    "YYYY-MM-DD?hh:mm",
    "YYYY-MM-DD?hh:mm:ss",
    "YYYY-MM-DD?hh-mm",
    "YYYY-MM-DD?hh-mm-ss",
};

/* The longest ending: ".bak-" + the longest form + ".123456789" + "+hh:mm". */
#define ENDING_MAX  (5 + 19 + 10 + 6)
#define COUNTER_MAX 10

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static size_t count_digits(const char *s, size_t len)
{
	size_t n = 0;

	while (n < len && is_digit(s[n]))
		n++;
	return n;
}

static bool pair_between(const char *s, int low, int high)
{
	int n;

	if (!is_digit(s[0]) || !is_digit(s[1]))
		return false;
	n = (s[0] - '0') * 10 + (s[1] - '0');
	return n >= low && n <= high;
}

static bool form_fits(const char *form, const char *s, size_t len)
{
	size_t i = 0;
	bool ok = true;

	if (strlen(form) != len)
		return false;
	while (ok && i < len) {
		switch (form[i]) {
		case 'Y':
			ok = is_digit(s[i]);
			i++;
			continue;
		case 'M':
			ok = pair_between(s + i, 1, 12);
			break;
		case 'D':
			ok = pair_between(s + i, 1, 31);
			break;
		case 'h':
			ok = pair_between(s + i, 0, 23);
			break;
		case 'm':
			ok = pair_between(s + i, 0, 59);
			break;
		case 's':
			ok = pair_between(s + i, 0, 60);
			break;
		case '?':
			ok = s[i] == 'T' || s[i] == '_' || s[i] == '-';
			i++;
			continue;
		default:
			ok = s[i] == form[i];
			i++;
			continue;
		}
		i += 2;
	}
	return ok;
}

/* Returns true when a form that has `part` ("" always, "mm", "ss") fits. */
static bool any_form_fits(const char *s, size_t len, const char *part)
{
	for (size_t i = 0; i < sizeof(stamps) / sizeof(stamps[0]); i++) {
		if (strstr(stamps[i], part) && form_fits(stamps[i], s, len))
			return true;
	}
	return false;
}

/* Returns true for a moment. `part`: what it must have, "mm" before a zone. */
static bool is_moment(const char *s, size_t len, const char *part)
{
	size_t n = 0;

	if (any_form_fits(s, len, part))
		return true;
	while (n < len && is_digit(s[len - 1 - n]))
		n++;
	if (n == 0 || n > 9 || n + 1 >= len)
		return false;
	len -= n + 1;
	return (s[len] == '.' || s[len] == ',') && any_form_fits(s, len, "ss");
}

static bool is_stamp(const char *s, size_t len)
{
	if (len == 10 && count_digits(s, len) == len)
		return true;
	if (is_moment(s, len, ""))
		return true;
	if (len > 1 && s[len - 1] == 'Z')
		return is_moment(s, len - 1, "mm");
	if (len > 6 && (s[len - 6] == '+' || s[len - 6] == '-') &&
	    form_fits("hh:mm", s + len - 5, 5) && is_moment(s, len - 6, "mm"))
		return true;
	return len > 5 && (s[len - 5] == '+' || s[len - 5] == '-') &&
	       form_fits("hhmm", s + len - 4, 4) && is_moment(s, len - 5, "mm");
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(s, word, len) == 0;
}

static bool is_counter(const char *s, size_t len)
{
	return len > 0 && len <= COUNTER_MAX && count_digits(s, len) == len;
}

/* Returns true for exactly one ending. may_end and ENDING_MAX must know it, too. */
static bool is_ending(const char *s, size_t len)
{
	if (s[0] == '~')
		return len == 1;
	if (s[0] == '-')
		return is_stamp(s + 1, len - 1);
	if (s[0] != '.' || len < 2)
		return false;
	if (is_digit(s[1]))
		return is_counter(s + 1, len - 1) || is_stamp(s + 1, len - 1);
	if (len > 5 && memcmp(s, ".bak-", 5) == 0)
		return is_stamp(s + 5, len - 5);
	return is_word(s, len, ".old") || is_word(s, len, ".orig") ||
	       is_word(s, len, ".save") || is_word(s, len, ".bak");
}

static bool is_backup_ending(const char *s, size_t len)
{
	return is_ending(s, len) && (s[0] == '~' || (s[0] == '.' && !is_digit(s[1])));
}

/* Returns true for a byte with which an ending may end: most names are told apart by
 * that. */
static bool may_end(char c)
{
	return is_digit(c) || c == '~' || c == 'Z' || c == 'd' || c == 'g' || c == 'e' ||
	       c == 'k';
}

bool jsonl_generation_stems(const char *name, size_t len,
			    bool (*live)(void *ctx, size_t stem), void *ctx)
{
	/* Where endings begin, from right to left; a ring, as an ending is never longer
	 * than ENDING_MAX. */
	size_t starts[ENDING_MAX + 1], n = 0;

	if (len == 0 || !may_end(name[len - 1]))
		return false;
	starts[n++] = len;
	for (size_t i = len; i-- > 0;) {
		size_t oldest = n > ENDING_MAX + 1 ? n - (ENDING_MAX + 1) : 0;
		bool found = false;

		if (starts[(n - 1) % (ENDING_MAX + 1)] - i > ENDING_MAX)
			return false;
		if (name[i] != '.' && name[i] != '-' && name[i] != '~')
			continue;
		for (size_t k = n; k-- > oldest && !found;) {
			size_t to = starts[k % (ENDING_MAX + 1)];

			if (to - i > ENDING_MAX)
				break;
			found = is_ending(name + i, to - i);
		}
		if (!found)
			continue;
		if (live(ctx, i))
			return true;
		starts[n++ % (ENDING_MAX + 1)] = i;
	}
	return false;
}

static bool stem_is_empty(void *ctx, size_t stem)
{
	return stem == 0;
}

bool jsonl_generation_suffix(const char *s, size_t len)
{
	return jsonl_generation_stems(s, len, stem_is_empty, NULL);
}

/* ---- backups ---- */

struct suffix {
	const char *s;
	size_t len;
};

/* Returns true where a backup's ending begins that only endings follow: then the text
 * before it is a sequence of endings as well, or the name would not be one. */
static bool backup_begins(void *ctx, size_t stem)
{
	const struct suffix *suffix = ctx;
	const char *s = suffix->s + stem;
	size_t left = suffix->len - stem;

	for (size_t n = 1; n <= left && n <= ENDING_MAX; n++)
		if (is_backup_ending(s, n) &&
		    (n == left || jsonl_generation_suffix(s + n, left - n)))
			return true;
	return false;
}

bool jsonl_generation_is_backup(const char *s, size_t len)
{
	struct suffix suffix = {s, len};

	return jsonl_generation_stems(s, len, backup_begins, &suffix);
}

/* ---- rotation chains ---- */

static bool is_number(const char *s, size_t len)
{
	return is_counter(s, len) || (len > 0 && is_stamp(s, len));
}

/* Returns true for a number, with its separator, that the name had not before: w.jsonl,
 * w-1.jsonl. */
static bool is_new_number(const char *s, size_t len)
{
	return is_number(s, len) ||
	       (len > 1 && (s[0] == '.' || s[0] == '-' || s[0] == '_') &&
		is_number(s + 1, len - 1));
}

/* Returns true when the place is not inside a row of digits of s. */
static bool is_border(const char *s, size_t at)
{
	return at == 0 || !is_digit(s[at - 1]) || !is_digit(s[at]);
}

bool jsonl_generation_chain(const char *from, const char *to)
{
	size_t from_len = strlen(from), to_len = strlen(to), head = 0, tail = 0;
	size_t most = from_len < to_len ? from_len : to_len;

	while (head < most && from[head] == to[head])
		head++;
	while (tail < most && from[from_len - 1 - tail] == to[to_len - 1 - tail])
		tail++;
	for (size_t i = 0; i <= head; i++) {
		for (size_t k = 0; k <= tail && i + k <= most; k++) {
			size_t a = from_len - i - k, b = to_len - i - k;

			if (a > ENDING_MAX || b > ENDING_MAX || !is_border(from, i) ||
			    !is_border(to, i) || !is_border(from, from_len - k) ||
			    !is_border(to, to_len - k))
				continue;
			if (a == 0 ? i > 0 && is_new_number(to + i, b)
				   : is_number(from + i, a) && is_number(to + i, b))
				return strcmp(from, to) != 0;
		}
	}
	return false;
}
