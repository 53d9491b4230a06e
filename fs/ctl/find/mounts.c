/* SPDX-License-Identifier: MIT */
#include "ctl/find/mounts.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fdinfo.h"
#include "base/memory.h"

/* ---- reading the table ---- */

/* Decodes \ooo, as mountinfo writes spaces and the like. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*out++ =
			    (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*out++ = *s;
		}
	}
	*out = '\0';
}

static int add(struct ctl_mounts *m, const struct ctl_mount *mount)
{
	if (jsonl_grow(&m->list, &m->cap, m->count + 1, sizeof(*m->list)))
		return -ENOMEM;
	m->list[m->count++] = *mount;
	return 0;
}

static char *copy_field(char *field)
{
	unescape(field);
	return strdup(field);
}

static uid_t parse_owner(const char *options)
{
	const char *at = options ? strstr(options, "user_id=") : NULL;

	return at ? (uid_t)strtoul(at + strlen("user_id="), NULL, 10) : 0;
}

/* Splits `text` at spaces into `n` fields; false: there are fewer. */
static bool split(char *text, char **fields, int n)
{
	char *save = NULL;

	for (int i = 0; i < n; i++) {
		fields[i] = strtok_r(i ? NULL : text, " \n", &save);
		if (!fields[i])
			return false;
	}
	return true;
}

/* Adds a mount of jsonlfs. One line of mountinfo:
 * "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS ... - TYPE SOURCE SUPER-OPTIONS" */
static int read_line(struct ctl_mounts *m, char *line)
{
	char *rest = strstr(line, " - "), *left[5], *right[3];
	unsigned major_number, minor_number;
	struct ctl_mount mount;
	int rc;

	if (!rest)
		return 0;
	*rest = '\0';
	if (!split(rest + 3, right, 3) || strcmp(right[0], "fuse.jsonlfs") != 0 ||
	    !split(line, left, 5) ||
	    sscanf(left[2], "%u:%u", &major_number, &minor_number) != 2)
		return 0;
	mount = (struct ctl_mount){.id = strtoul(left[0], NULL, 10),
				   .dev = makedev(major_number, minor_number),
				   .owner = parse_owner(right[2]),
				   .root = copy_field(left[3]),
				   .point = copy_field(left[4]),
				   .source = copy_field(right[1])};
	rc = mount.root && mount.point && mount.source ? add(m, &mount) : -ENOMEM;
	if (rc < 0) {
		free(mount.root);
		free(mount.point);
		free(mount.source);
	}
	return rc;
}

int ctl_mounts_read(struct ctl_mounts *m)
{
	cleanup_free char *line = NULL;
	size_t cap = 0;
	FILE *table;
	int rc = 0;

	*m = (struct ctl_mounts){0};
	table = fopen("/proc/self/mountinfo", "re");
	if (!table)
		return -errno;
	while (rc == 0 && getline(&line, &cap, table) > 0)
		rc = read_line(m, line);
	(void)fclose(table);
	return rc;
}

void ctl_mounts_free(struct ctl_mounts *m)
{
	for (size_t i = 0; i < m->count; i++) {
		free(m->list[i].root);
		free(m->list[i].point);
		free(m->list[i].source);
	}
	free(m->list);
	*m = (struct ctl_mounts){0};
}

/* ---- finding one ---- */

const struct ctl_mount *ctl_mounts_of(const struct ctl_mounts *m, int fd)
{
	struct fs_fdinfo info;
	char path[64];

	/* The kernel answers this without asking the daemon, which may be dead. */
	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (!m->count || fs_fdinfo_read(AT_FDCWD, path, &info) || info.mount <= 0)
		return NULL;
	for (size_t i = 0; i < m->count; i++)
		if (m->list[i].id == (unsigned long)info.mount)
			return &m->list[i];
	return NULL;
}

const struct ctl_mount *ctl_mounts_whole(const struct ctl_mounts *m,
					 const struct ctl_mount *part)
{
	if (strcmp(part->root, "/") == 0)
		return part;
	for (size_t i = 0; i < m->count; i++)
		if (m->list[i].dev == part->dev && strcmp(m->list[i].root, "/") == 0)
			return &m->list[i];
	return NULL;
}

/* ---- explaining ---- */

/* Returns the mount that a path lies in by its text: the last of those with the longest
 * mount point, which is on top. */
static const struct ctl_mount *covering(const struct ctl_mounts *m, const char *path)
{
	const struct ctl_mount *best = NULL;

	for (size_t i = 0; i < m->count; i++) {
		size_t len = strlen(m->list[i].point);

		if (strncmp(path, m->list[i].point, len) == 0 &&
		    (!path[len] || path[len] == '/' || len == 1) &&
		    (!best || len >= strlen(best->point)))
			best = &m->list[i];
	}
	return best;
}

static char *explain_denied(const struct ctl_mount *mount)
{
	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const struct passwd *user = getpwuid(mount->owner);
	char *text = NULL;
	char id[32];
	int n;

	(void)snprintf(id, sizeof(id), "#%u", (unsigned)mount->owner);
	n = asprintf(
	    &text,
	    "the mount at %s was made by user %s without allow_other, so that it "
	    "is closed to everybody else, root too: try as that user "
	    "(runuser -u %s -- jsonlfsctl ...)",
	    mount->point, user ? user->pw_name : id, user ? user->pw_name : id);
	return n < 0 ? NULL : text;
}

/* Returns true when the mount at `path` answers. */
static bool is_alive(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

static char *explain_dead(const char *path, const char *absolute)
{
	char *text = NULL;
	int n;

	if (path[0] != '/' && is_alive(absolute))
		n = asprintf(&text,
			     "the current directory lies in a mount whose daemon has "
			     "ended, and a new mount lies over it: leave it and come "
			     "back (cd \"$PWD\"), then try again");
	else
		n = asprintf(&text,
			     "the mount is dead: mount it again by the same command, "
			     "which clears it, or remove it: umount -l %s",
			     absolute);
	return n < 0 ? NULL : text;
}

/* Makes a path absolute. A current directory in a dead mount has no other name than the
 * shell's PWD. To be freed; NULL when it cannot be told. */
static char *absolute_path(const char *path)
{
	/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	const char *pwd = getenv("PWD");
	cleanup_free char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
	char *text = NULL;

	if (path[0] == '/')
		return strdup(path);
	if (!cwd || cwd[0] != '/') {
		free(cwd);
		cwd = pwd && pwd[0] == '/' ? strdup(pwd) : NULL;
	}
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	if (cwd && asprintf(&text, "%s%s%s", cwd, strcmp(path, ".") == 0 ? "" : "/",
			    strcmp(path, ".") == 0 ? "" : path) < 0)
		text = NULL;
	return text;
}

char *ctl_mounts_explain(const char *path, int rc)
{
	cleanup_free char *absolute = absolute_path(path);
	const struct ctl_mount *mount;
	struct ctl_mounts m = {0};
	char *text = NULL;

	if (!absolute)
		return NULL;
	if (rc == -ENOTCONN || rc == -ECONNABORTED)
		return explain_dead(path, absolute);
	if (rc == -EACCES && ctl_mounts_read(&m) == 0) {
		mount = covering(&m, absolute);
		if (mount && mount->owner != geteuid())
			text = explain_denied(mount);
	}
	ctl_mounts_free(&m);
	return text;
}
