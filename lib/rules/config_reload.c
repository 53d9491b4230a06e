/* SPDX-License-Identifier: MIT */
/* Reads a configuration file again, and keeps the options that a mount cannot change. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "rules/config_internal.h"

static bool is_text(const struct jsonl_option *o)
{
	return o->type == OPTION_GLOBS || o->type == OPTION_STRING;
}

static void *field(const struct jsonl_config *config, size_t at)
{
	return (char *)config + at;
}

static int copy_value(const struct jsonl_option *o, const struct jsonl_config *from,
		      struct jsonl_config *to)
{
	if (is_text(o)) {
		const char *text = *(char **)field(from, o->at);
		char *copy = text ? strdup(text) : NULL;

		if (text && !copy)
			return -ENOMEM;
		free(*(char **)field(to, o->at));
		*(char **)field(to, o->at) = copy;
		return 0;
	}
	memcpy(field(to, o->at), field(from, o->at), o->size);
	if (o->negative_at)
		memcpy(field(to, o->negative_at), field(from, o->negative_at),
		       sizeof(bool));
	return 0;
}

static bool same_value(const struct jsonl_option *o, const struct jsonl_config *a,
		       const struct jsonl_config *b)
{
	if (is_text(o)) {
		const char *x = *(char **)field(a, o->at), *y = *(char **)field(b, o->at);

		return x == y || (x && y && strcmp(x, y) == 0);
	}
	return memcmp(field(a, o->at), field(b, o->at), o->size) == 0 &&
	       (!o->negative_at || memcmp(field(a, o->negative_at),
					  field(b, o->negative_at), sizeof(bool)) == 0);
}

/* Returns true for an option that takes effect at a reload: patterns, settings of files,
 * and bounds, which a mount compares anew each time. */
static bool takes_effect(const struct jsonl_option *o)
{
	static const size_t others[] = {
	    offsetof(struct jsonl_config, match),
	    offsetof(struct jsonl_config, exclude),
	    offsetof(struct jsonl_config, generations),
	    offsetof(struct jsonl_config, archive_max),
	    offsetof(struct jsonl_config, archive_age),
	    offsetof(struct jsonl_config, quarantine_max),
	    offsetof(struct jsonl_config, pending_max),
	};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (o->at == others[i])
			return true;
	return jsonl_config_is_per_file(o);
}

static int note_kept(char **kept, const char *name)
{
	char *list;

	if (asprintf(&list, "%s%s%s", *kept ? *kept : "", *kept ? ", " : "", name) < 0)
		return -ENOMEM;
	free(*kept);
	*kept = list;
	return 0;
}

/* Puts back the old values of options that cannot change, and lists them in *kept. */
static int keep(const struct jsonl_config *old, struct jsonl_config *new, char **kept)
{
	const struct jsonl_option *o;
	int r = 0;

	for (size_t n = 0; !r && (o = jsonl_config_option(n)); n++) {
		if (!o->size || takes_effect(o) || same_value(o, old, new))
			continue;
		r = note_kept(kept, o->name);
		if (!r)
			r = copy_value(o, old, new);
	}
	return r;
}

int jsonl_config_reload(const struct jsonl_config *old, const char *path,
			struct jsonl_config *new, char **kept, char **error)
{
	const struct jsonl_option *o;
	int r;

	if (error)
		*error = NULL;
	*kept = NULL;
	r = jsonl_config_init(new);
	if (r)
		return r;
	for (size_t n = 0; !r && (o = jsonl_config_option(n)); n++) {
		if (old->given >> n & 1)
			r = copy_value(o, old, new);
	}
	new->given = old->given;
	if (!r)
		r = jsonl_config_read(new, path, old->path, error);
	if (!r)
		r = jsonl_config_check(new, error);
	if (!r)
		r = keep(old, new, kept);
	if (r) {
		jsonl_config_deinit(new);
		free(*kept);
		*kept = NULL;
	}
	return r;
}
