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

/* Adds a line of the index. Lines that cannot be parsed are skipped: a crash may have
 * torn them. */
static int add_line(struct ctl_store *s, const char *text)
{
	struct jsonl_report *line = jsonl_report_parse(text);
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
	/* For a second the kernel answers for a mount from its cache, but not to this. */
	(void)statx(fd, "", AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_SIZE, &now);
	while (rc == 0 && getline(&line, &cap, f) > 0)
		rc = add_line(s, line);
	(void)fclose(f);
	return rc;
}

static int take_index(struct ctl_store *s)
{
	int rc = 0;

	for (size_t i = 0; i < s->files.index.count && rc == 0; i++)
		rc = add_line(s, s->files.index.list[i]);
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
	return ctl_entries_unreadable("quarantine", path, rc);
}

int ctl_store_open_entry(const struct ctl_store *s, const char *name)
{
	bool good = ctl_entries_is_name(name);
	int fd = good ? ctl_open_file(s->files.dir, name, O_RDONLY, 0) : -EINVAL;

	if (fd < 0)
		ctl_error("%s: %s: jsonlfsctl quarantine list tells the names", name,
			  good ? jsonl_error_text(fd) : "no name of an entry");
	return fd;
}
