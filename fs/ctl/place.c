#include "place.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "ctl.h"
#include "holder.h"

#define LOCK_WAIT_MS 5000
#define LOCK_STEP_MS 10

/* ---- mounts ---- */

/* Spaces and the like stand as \ooo in mountinfo. */
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

/* One line of mountinfo: "ID PARENT MAJOR:MINOR ROOT POINT OPTIONS ... - TYPE SOURCE ..."
 */
static int look_at_mount(char *line, dev_t dev, struct ctl_place *place)
{
	char *rest = strstr(line, " - "), *save = NULL, *fields[5], *type, *source;
	unsigned major_number, minor_number;

	if (!rest)
		return 0;
	*rest = '\0';
	type = strtok_r(rest + 3, " \n", &save);
	source = strtok_r(NULL, " \n", &save);
	if (!type || strcmp(type, "fuse.jsonlfs") != 0)
		return 0;
	place->anywhere = true;
	save = NULL;
	for (int i = 0; i < 5; i++) {
		fields[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!fields[i])
			return 0;
	}
	if (sscanf(fields[2], "%u:%u", &major_number, &minor_number) != 2 ||
	    makedev(major_number, minor_number) != dev || place->inside)
		return 0;
	unescape(fields[4]);
	place->inside = true;
	place->point = strdup(fields[4]);
	if (source) {
		unescape(source);
		place->source = strdup(source);
	}
	return place->point ? 0 : -ENOMEM;
}

static int stat_or_parent(const char *path, struct stat *st)
{
	cleanup_free char *parent = NULL;
	char *slash;

	if (stat(path, st) == 0)
		return 0;
	if (errno != ENOENT)
		return -errno;
	parent = strdup(path);
	if (!parent)
		return -ENOMEM;
	slash = strrchr(parent, '/');
	if (slash)
		slash[slash == parent ? 1 : 0] = '\0';
	return stat(slash ? parent : ".", st) < 0 ? -errno : 0;
}

int ctl_place_find(const char *path, struct ctl_place *place)
{
	cleanup_free char *line = NULL;
	size_t cap = 0;
	struct stat st;
	FILE *table;
	int rc;

	*place = (struct ctl_place){0};
	rc = stat_or_parent(path, &st);
	if (rc < 0)
		return rc;
	table = fopen("/proc/self/mountinfo", "re");
	if (!table)
		return -errno;
	while (rc == 0 && getline(&line, &cap, table) > 0)
		rc = look_at_mount(line, st.st_dev, place);
	(void)fclose(table);
	if (rc < 0)
		ctl_place_free(place);
	return rc;
}

void ctl_place_free(struct ctl_place *place)
{
	free(place->point);
	free(place->source);
	*place = (struct ctl_place){0};
}

void ctl_place_refuse(const char *command, const char *path,
		      const struct ctl_place *place)
{
	bool itself = place->source && strcmp(place->source, place->point) == 0;

	if (place->source && place->source[0] == '/' && !itself)
		ctl_error("%s: lies in a mount of jsonlfs, where `%s` may not change it: "
			  "unmount it (umount %s), or name the file below the backing "
			  "directory %s",
			  path, command, place->point, place->source);
	else
		ctl_error(
		    "%s: lies in a mount of jsonlfs, where `%s` may not change it: "
		    "unmount it (umount %s), run this again, and mount it as before",
		    path, command, place->point);
}

/* ---- keeping others from it ---- */

int ctl_lock(int fd)
{
	const struct timespec pause = {.tv_nsec = LOCK_STEP_MS * 1000000L};

	for (int waited = 0;; waited += LOCK_STEP_MS) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK || waited >= LOCK_WAIT_MS)
			return -errno;
		(void)nanosleep(&pause, NULL);
	}
}

static int look_around(int fd)
{
	char comm[32];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return ctl_holder(&st, comm) ? -EBUSY : 0;
}

int ctl_guard_take(struct ctl_guard *g, int fd)
{
	*g = (struct ctl_guard){.fd = fd};
	/* Who waits for the lease is told of by this signal, whose default is death. */
	(void)signal(SIGIO, SIG_IGN);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
		g->lease = true;
		return 0;
	}
	/* Not every file system has leases, nor every user the right to one. */
	return errno == EAGAIN ? -EBUSY : look_around(fd);
}

int ctl_guard_check(const struct ctl_guard *g)
{
	if (!g->lease)
		return look_around(g->fd);
	return fcntl(g->fd, F_GETLEASE) == F_RDLCK ? 0 : -EBUSY;
}

void ctl_guard_release(struct ctl_guard *g)
{
	if (g->lease)
		(void)fcntl(g->fd, F_SETLEASE, F_UNLCK);
	g->lease = false;
}
