/* SPDX-License-Identifier: MIT */
#include "control/entries.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/path.h"
#include "control/request.h"
#include "control/socket.h"
#include "report/report.h"
#include "tree/mount.h"

#define INDEX_NAME  "quarantine.jsonl"
#define PACKET_FULL (FS_CONTROL_PACKET / 4) /* of strings, before escaping */
#define LINE_LIMIT  (FS_CONTROL_PACKET / 8) /* a longer line of the index is left out */

struct listing {
	const struct fs_control_request *r;
	int dir;
	size_t filled; /* bytes in the packet that is being made */
	struct jsonl_report *entries, *index;
};

/* ---- packets ---- */

/* Sends the packet. 0 or -errno: the client is gone, or does not read. */
static int packet_send(struct listing *l)
{
	struct jsonl_report *packet = jsonl_report_object();
	cleanup_free char *text = NULL;
	size_t len;

	jsonl_report_add(packet, "entries", l->entries);
	jsonl_report_add(packet, "index", l->index);
	l->entries = jsonl_report_array();
	l->index = jsonl_report_array();
	l->filled = 0;
	text = jsonl_report_text(packet, false);
	jsonl_report_free(packet);
	if (!text)
		return -ENOMEM;
	len = strlen(text);
	return send(l->r->client, text, len, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* Adds a string to one of the two lists, after sending the packet if it is full. */
static int packet_add(struct listing *l, struct jsonl_report **list, const char *text)
{
	int rc = l->filled >= PACKET_FULL ? packet_send(l) : 0;

	if (rc)
		return rc;
	jsonl_report_add_string(*list, NULL, text);
	l->filled += strlen(text);
	return 0;
}

/* ---- who may know of what ---- */

bool fs_control_is_entry_name(const char *name)
{
	return name && name[0] && name[0] != '.' && !strchr(name, '/');
}

/* Returns true when the name is that of an entry. *known: the client may know that it
 * exists. */
static bool is_entry(const struct listing *l, const char *name, bool *known)
{
	struct stat st;

	if (!fs_control_is_entry_name(name) ||
	    fstatat(l->dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return false;
	*known = l->r->vault_owner || st.st_uid == l->r->uid;
	return true;
}

static int list_directory(struct listing *l)
{
	struct dirent *e;
	int rc;
	DIR *dir = fs_directory_open(l->dir, &rc);

	if (!dir)
		return rc;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
	while (rc == 0 && (e = readdir(dir))) {
		bool known = false;

		if (is_entry(l, e->d_name, &known) && known)
			rc = packet_add(l, &l->entries, e->d_name);
	}
	closedir(dir);
	return rc;
}

/* Adds a line of the index, whose entry may be of another user's file that the client
 * wrote to. */
static int list_line(void *ctx, const struct jsonl_report *line, const char *text)
{
	struct listing *l = ctx;
	const char *file = jsonl_report_get_string(line, "file");
	const char *event = jsonl_report_get_string(line, "event");
	bool known = false;
	int rc = 0;

	if (file && event && is_entry(l, file, &known)) {
		bool wrote = jsonl_report_get(line, "uid") &&
			     jsonl_report_get_uint(line, "uid") == l->r->uid;

		if (!known && wrote)
			rc = packet_add(l, &l->entries, file);
		if (rc == 0 && (known || wrote))
			rc = packet_add(l, &l->index, text);
	}
	return rc;
}

/* Calls one() for each line of the quarantine's index, until it returns other than 0. */
static int each_line(struct fs_mount *m,
		     int (*one)(void *ctx, const struct jsonl_report *line,
				const char *text),
		     void *ctx)
{
	int fd = openat(m->vault.state_fd, INDEX_NAME,
			O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
	cleanup_free char *text = NULL;
	size_t cap = 0;
	ssize_t n;
	int rc = 0;

	if (!f) {
		rc = errno == ENOENT ? 0 : -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == 0 && (n = getline(&text, &cap, f)) > 0) {
		struct jsonl_report *line =
		    n < LINE_LIMIT ? jsonl_report_parse(text) : NULL;

		if (line)
			rc = one(ctx, line, text);
		jsonl_report_free(line);
	}
	(void)fclose(f);
	return rc;
}

struct sought {
	const char *name;
	struct fs_quarantined *found;
};

static int find_line(void *ctx, const struct jsonl_report *line, const char *text)
{
	const char *file = jsonl_report_get_string(line, "file");
	const char *event = jsonl_report_get_string(line, "event");
	const char *path = jsonl_report_get_string(line, "path");
	struct sought *s = ctx;

	if (!file || !event || strcmp(file, s->name) != 0)
		return 0;
	if (strcmp(event, "restored") == 0)
		s->found->restored = true;
	else if (path && !s->found->path[0] && strlen(path) < sizeof(s->found->path))
		(void)stpcpy(s->found->path, path);
	return 0;
}

int fs_control_quarantined(struct fs_mount *m, const char *name,
			   struct fs_quarantined *found)
{
	struct sought s = {.name = name, .found = found};

	found->path[0] = '\0';
	found->restored = false;
	return each_line(m, find_line, &s);
}

int fs_control_entries(struct fs_control_request *r)
{
	const char *part = jsonl_report_get_string(r->args, "part");
	bool quarantine = part && strcmp(part, "quarantine") == 0;
	struct listing l = {.r = r};
	int rc;

	if (!quarantine && (!part || strcmp(part, "archive") != 0))
		return -EINVAL;
	if (r->m->vault.state_fd < 0)
		return -EROFS;
	cleanup_close int dir = openat(r->m->vault.state_fd, part,
				       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	l.dir = dir;
	l.entries = jsonl_report_array();
	l.index = jsonl_report_array();
	rc = list_directory(&l);
	if (rc == 0 && quarantine)
		rc = each_line(r->m, list_line, &l);
	if (rc == 0)
		rc = packet_send(&l);
	jsonl_report_free(l.entries);
	jsonl_report_free(l.index);
	return rc;
}
