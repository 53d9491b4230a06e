/* SPDX-License-Identifier: MIT */
#include "ctl/kept/selection.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/archived.h"

int ctl_parse_age(const char *text, uint64_t *seconds)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	char *rest;

	errno = 0;
	*seconds = strtoull(text, &rest, 10);
	if (text[0] < '0' || text[0] > '9' || errno || *seconds > (1ULL << 31) ||
	    strlen(rest) != 1)
		return -1;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].unit == *rest) {
			*seconds *= units[i].seconds;
			return 0;
		}
	}
	return -1;
}

static int parse_owner(const char *text, uid_t *uid)
{
	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const struct passwd *pw = getpwnam(text);
	char *end;
	unsigned long number;

	if (pw) {
		*uid = pw->pw_uid;
		return 0;
	}
	errno = 0;
	number = strtoul(text, &end, 10);
	*uid = (uid_t)number;
	return text[0] < '0' || text[0] > '9' || *end || errno || number > UINT32_MAX - 1
		   ? -1
		   : 0;
}

int ctl_selection_take(const struct ctl_command *command, struct ctl_selection *s,
		       int argc, char **argv, int *i)
{
	const char *value;

	if (strcmp(argv[*i], "--all") == 0) {
		s->all = true;
		return 1;
	}
	if (ctl_take_value("--older-than", argc, argv, i, &value)) {
		s->aged = true;
		return ctl_parse_age(value, &s->age) == 0
			   ? 1
			   : ctl_usage(
				 command,
				 "--older-than is a number and s, m, h, d or w, not "
				 "%s",
				 value);
	}
	if (ctl_take_value("--owner", argc, argv, i, &value)) {
		s->owned = true;
		return parse_owner(value, &s->owner) == 0
			   ? 1
			   : ctl_usage(command, "--owner: %s is no user", value);
	}
	return 0;
}

bool ctl_selection_given(const struct ctl_selection *s)
{
	return s->all || s->aged || s->owned;
}

int ctl_selection_check(const struct ctl_command *command, const struct ctl_selection *s,
			int names)
{
	if (names && ctl_selection_given(s))
		return ctl_usage(command, "drop takes names, or --all, --older-than and "
					  "--owner, not both");
	if (!names && !ctl_selection_given(s))
		return ctl_usage(command, "drop wants names, or --all, --older-than=AGE, "
					  "--owner=USER");
	return 0;
}

struct reading {
	const struct ctl_selection *s;
	int dir;
	int64_t before;
};

static int is_selected(void *ctx, const char *name)
{
	const struct reading *r = ctx;
	struct jsonl_archived said;
	struct stat st;

	if (name[0] == '.' || fstatat(r->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode) || (r->s->owned && st.st_uid != r->s->owner))
		return 0;
	if (!r->s->aged)
		return 1;
	/* The name says since when it is here, in the quarantine, too; else the ctime
	 * does. */
	jsonl_archived_parse(name, &said);
	return (said.time < 0 ? st.st_ctime : said.time) <= r->before;
}

int ctl_selection_read(const struct ctl_selection *s, const struct ctl_entries *e,
		       struct ctl_names *names)
{
	struct reading r = {
	    .s = s, .dir = e->dir, .before = time(NULL) - (int64_t)s->age};

	return ctl_entries_read(e, is_selected, &r, names);
}
