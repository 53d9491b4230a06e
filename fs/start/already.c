/* SPDX-License-Identifier: MIT */
#include "start/already.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "report/report.h"
#include "rules/config.h"
#include "start/exit.h"
#include "tree/mount.h"

#define STATUS_MAX (4 << 20)

struct comparison {
	const struct jsonl_report *status; /* of the mount; NULL: it cannot be read */
	const struct fs_mount *m;
	unsigned different;
};

static struct jsonl_report *read_status(const char *mountpoint)
{
	cleanup_free char *text = malloc(STATUS_MAX);
	char path[PATH_MAX];
	size_t len = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/.jsonlfs/status.json", mountpoint);
	file = text ? fopen(path, "re") : NULL;
	if (file) {
		len = fread(text, 1, STATUS_MAX - 1, file);
		fclose(file);
	}
	if (!len)
		return NULL;
	text[len] = '\0';
	return jsonl_report_parse(text);
}

/* Returns the value that an option has now: from the mount command, a configuration
 * file, or the default. */
static const char *holds(const struct jsonl_report *status, const char *name)
{
	const struct jsonl_report *given = jsonl_report_get(status, "given"), *one;
	const char *value;

	for (size_t i = 0; (one = jsonl_report_at(given, i)); i++) {
		value = jsonl_report_get_string(one, "option");
		if (value && strcmp(value, name) == 0)
			return jsonl_report_get_string(one, "value");
	}
	value = jsonl_report_get_string(jsonl_report_get(status, "options"), name);
	return value ? value : jsonl_config_standard(name);
}

static void tell(struct comparison *c, const char *name, const char *asked,
		 const char *there)
{
	if (!c->different++)
		fprintf(stderr,
			"jsonlfs: %s is already mounted on %s, with other options:\n",
			c->m->vault.source, c->m->vault.mountpoint);
	fprintf(stderr, "jsonlfs:   %s is %s there, not %s\n", name,
		there && *there ? there : "not set", asked);
}

static void compare(void *ctx, const struct jsonl_config_value *value)
{
	struct comparison *c = ctx;
	const char *there = holds(c->status, value->name);

	if (strcmp(there ? there : "", value->text) != 0)
		tell(c, value->name, value->text, there);
}

int fs_already_mounted(const struct fs_mount *m)
{
	struct jsonl_report *status = read_status(m->vault.mountpoint);
	struct comparison c = {.status = status, .m = m};
	const char *config = jsonl_report_get_string(status, "config");

	if (status)
		jsonl_config_given(&m->vault.config, compare, &c);
	if (status && m->vault.config.path &&
	    strcmp(config ? config : "", m->vault.config.path) != 0)
		tell(&c, "config", m->vault.config.path, config);
	if (c.different)
		fprintf(stderr,
			"jsonlfs: these take effect with a new mount: umount %s, then "
			"mount it again\n",
			m->vault.mountpoint);
	else
		fprintf(stderr, "jsonlfs: %s is already mounted on %s\n", m->vault.source,
			m->vault.mountpoint);
	jsonl_report_free(status);
	return c.different ? FS_EXIT_MOUNT : 0;
}
