/* SPDX-License-Identifier: MIT */
#include "ctl/kept/quarantine_store.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"

/* ---- the index ---- */

static int order(const void *a, const void *b)
{
	const struct ctl_store_entry *x = a, *y = b;
	const char *from = jsonl_report_get_string(x->line, "time");
	const char *to = jsonl_report_get_string(y->line, "time");
	int by_file = strcmp(x->file, y->file);

	/* Of several lines about a file the first says why it was made. */
	return by_file ? by_file : strcmp(from ? from : "", to ? to : "");
}

static int add_line(struct ctl_store *s, struct jsonl_report *line)
{
	const char *file = jsonl_report_get_string(line, "file");
	const char *event = jsonl_report_get_string(line, "event");

	if (!file || !event || strcmp(event, "joined") == 0) {
		jsonl_report_free(line);
		return 0;
	}
	if (jsonl_grow(&s->entries, &s->cap, s->count + 1, sizeof(*s->entries))) {
		jsonl_report_free(line);
		return -ENOMEM;
	}
	s->entries[s->count++] = (struct ctl_store_entry){.file = file, .line = line};
	return 0;
}

/* Text that is no line of an index is passed over: a crash may have torn it. */
static int read_index(struct ctl_store *s)
{
	int fd = ctl_open_file(s->state_fd, "quarantine.jsonl", O_RDONLY, 0);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	cleanup_free char *line = NULL;
	struct statx now;
	size_t cap = 0;
	int rc = 0;

	if (!f) {
		rc = fd == -ENOENT ? 0 : fd < 0 ? fd : -errno;
		if (fd >= 0)
			(void)close(fd);
		return rc;
	}
	/* A mount answers for a second from what it knows, but not when asked like this.
	 */
	(void)statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &now);
	while (rc == 0 && getline(&line, &cap, f) > 0) {
		struct jsonl_report *parsed = jsonl_report_parse(line);

		rc = parsed ? add_line(s, parsed) : 0;
	}
	(void)fclose(f);
	return rc;
}

static int take_index(struct ctl_store *s)
{
	int rc = 0;

	for (size_t i = 0; i < s->files.index.count && rc == 0; i++) {
		struct jsonl_report *parsed =
		    jsonl_report_parse(s->files.index.list[i]);

		rc = parsed ? add_line(s, parsed) : 0;
	}
	return rc;
}

const struct jsonl_report *ctl_store_line(const struct ctl_store *s, const char *file,
					  const char **restored, uint64_t *events)
{
	const struct jsonl_report *found = NULL;
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(s->entries[middle].file, file) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*restored = NULL;
	*events = 0;
	for (; low < s->count && strcmp(s->entries[low].file, file) == 0; low++) {
		const struct jsonl_report *line = s->entries[low].line;

		if (strcmp(jsonl_report_get_string(line, "event"), "restored") == 0)
			*restored = jsonl_report_get_string(line, "time");
		else if (++*events == 1)
			found = line;
	}
	return found;
}

/* ---- opening ---- */

void ctl_store_close(struct ctl_store *s)
{
	for (size_t i = 0; i < s->count; i++)
		jsonl_report_free(s->entries[i].line);
	free(s->entries);
	ctl_entries_close(&s->files);
	if (s->state_fd >= 0)
		(void)close(s->state_fd);
	ctl_vault_free(&s->vault);
}

static int open_at(struct ctl_store *s, const char *path, const char *state)
{
	int rc = ctl_vault_find(path, &s->vault);

	if (rc < 0)
		return rc;
	s->state_fd = ctl_vault_state(&s->vault, state);
	if (s->state_fd < 0)
		return s->state_fd;
	rc = ctl_entries_open(&s->files, &s->vault, s->state_fd, "quarantine");
	if (rc == 0)
		rc = s->files.told ? take_index(s) : read_index(s);
	if (s->count)
		qsort(s->entries, s->count, sizeof(*s->entries), order);
	return rc;
}

int ctl_store_open(struct ctl_store *s, const char *path, const char *state)
{
	int rc;

	*s = (struct ctl_store){.state_fd = -1, .files.dir = -1};
	s->vault.root_fd = s->vault.spot.dir = s->vault.spot.root = -1;
	rc = open_at(s, path, state);
	if (rc == 0)
		return 0;
	ctl_store_close(s);
	if (rc == -ENOENT || rc == -ENOTDIR)
		ctl_error(
		    "%s: no state directory with a quarantine here: this vault has "
		    "nothing set aside, or it is no vault: name the vault, mounted or not, "
		    "or the directory that state= names with --state",
		    path);
	else if (rc == -EACCES || rc == -EPERM)
		ctl_error(
		    "%s: while the vault is not mounted its quarantine is for root: "
		    "mount it, or try as root",
		    path);
	else
		ctl_error("%s: %s", path, ctl_explain(path, rc));
	return CTL_FAILURE;
}

bool ctl_store_is_name(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/');
}

int ctl_store_open_entry(const struct ctl_store *s, const char *name)
{
	int fd = ctl_store_is_name(name) ? ctl_open_file(s->files.dir, name, O_RDONLY, 0)
					 : -EINVAL;

	if (fd < 0)
		ctl_error("%s: %s: jsonlfsctl quarantine list tells the names", name,
			  ctl_store_is_name(name) ? jsonl_error_text(fd)
						  : "no name of an entry");
	return fd;
}
