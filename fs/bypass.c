/* The programs that hold governed files open for writing since before the mount: their
 * descriptors go round it. They are looked for in /proc by a thread that nobody waits
 * for, because to look at a process takes as long as that hangs in an exec. What it needs
 * of the mount it asks for under a lock, and gets only while the mount is there. */
#include "start.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#define BYPASS_MS INT64_C(60000) /* then it gives up, whatever is left to be looked at   \
				  */

struct fs_bypass {
	pthread_mutex_t lock;
	struct fs_mount *m; /* under lock; NULL: the mount ends */
	unsigned users;	    /* under lock: the mount, the thread */
	char *source;
	dev_t device; /* of the mount itself */
	int64_t until;
};

static void bypass_put(struct fs_bypass *b)
{
	bool last;

	pthread_mutex_lock(&b->lock);
	last = --b->users == 0;
	pthread_mutex_unlock(&b->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b->source);
	free(b);
}

static bool is_over(struct fs_bypass *b)
{
	bool over;

	pthread_mutex_lock(&b->lock);
	over = !b->m || fs_now_ms() > b->until;
	pthread_mutex_unlock(&b->lock);
	return over;
}

static bool is_governed(struct fs_bypass *b, const char *path)
{
	bool governed;

	pthread_mutex_lock(&b->lock);
	governed =
	    b->m && jsonl_policy_classify(b->m->policy, path) == JSONL_CLASS_GOVERNED;
	pthread_mutex_unlock(&b->lock);
	return governed;
}

static void tell(struct fs_bypass *b, const char *path, pid_t pid, const char *program)
{
	pthread_mutex_lock(&b->lock);
	if (b->m)
		FS_LOG(LOG_WARNING, (uid_t)-1, "bypass", FS_STR("path", path),
		       FS_INT("pid", pid), FS_STR("program", program),
		       FS_STR("reason", "opened before the mount: its writes are not "
					"checked"));
	pthread_mutex_unlock(&b->lock);
}

/* Is this descriptor of process `pid` open for writing? */
static bool opened_for_writing(const char *pid, const char *fd)
{
	char path[64], line[128];
	int flags = 0;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	info = fopen(path, "re");
	if (!info)
		return false;
	while (fgets(line, sizeof(line), info)) {
		if (sscanf(line, "flags: %o", &flags) == 1)
			break;
	}
	fclose(info);
	return (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH);
}

static void look_at_descriptor(struct fs_bypass *b, const char *pid, int fds,
			       const char *fd)
{
	char target[PATH_MAX], program[PATH_MAX];
	size_t root = strcmp(b->source, "/") == 0 ? 0 : strlen(b->source);
	ssize_t n = readlinkat(fds, fd, target, sizeof(target) - 1);
	pid_t id = (pid_t)strtol(pid, NULL, 10);
	struct statx sx;

	if (n < 0)
		return;
	target[n] = '\0';
	/* The path first: it costs no question to a file system that may hang. */
	if (strncmp(target, b->source, root) != 0 || target[root] != '/' ||
	    !is_governed(b, target + root + 1))
		return;
	if (statx(fds, fd, AT_STATX_DONT_SYNC, STATX_TYPE, &sx) ||
	    !S_ISREG(sx.stx_mode) ||
	    makedev(sx.stx_dev_major, sx.stx_dev_minor) == b->device ||
	    !opened_for_writing(pid, fd))
		return;
	fs_program_name(id, program, sizeof(program));
	tell(b, target + root + 1, id, program);
}

static void look_at_process(struct fs_bypass *b, const char *pid)
{
	char path[64];
	struct dirent *e;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
	dir = opendir(path);
	if (!dir)
		return; /* gone, or another user's */
	/* Our own stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (!is_over(b) && (e = readdir(dir))) {
		if (isdigit((unsigned char)e->d_name[0]))
			look_at_descriptor(b, pid, dirfd(dir), e->d_name);
	}
	closedir(dir);
}

static void *bypass_run(void *arg)
{
	struct fs_bypass *b = arg;
	DIR *proc = opendir("/proc");
	struct dirent *e;

	/* Our own stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (proc && !is_over(b) && (e = readdir(proc))) {
		if (isdigit((unsigned char)e->d_name[0]) &&
		    strtol(e->d_name, NULL, 10) != getpid())
			look_at_process(b, e->d_name);
	}
	if (proc)
		closedir(proc);
	bypass_put(b);
	return NULL;
}

static dev_t device_number(const char *device)
{
	unsigned major_number = 0, minor_number = 0;

	if (sscanf(device, "%u:%u", &major_number, &minor_number) != 2)
		return 0;
	return makedev(major_number, minor_number);
}

void fs_bypass_start(struct fs_mount *m, const char *device)
{
	struct fs_bypass *b = calloc(1, sizeof(*b));
	pthread_attr_t detached;
	pthread_t thread;

	if (!b)
		return;
	pthread_mutex_init(&b->lock, NULL);
	b->m = m;
	b->users = 2;
	b->source = strdup(m->source);
	b->device = device_number(device);
	b->until = fs_now_ms() + BYPASS_MS;
	m->bypass = b;
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (!b->source || pthread_create(&thread, &detached, bypass_run, b))
		bypass_put(b);
	pthread_attr_destroy(&detached);
}

void fs_bypass_stop(struct fs_mount *m)
{
	struct fs_bypass *b = m->bypass;

	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	b->m = NULL;
	pthread_mutex_unlock(&b->lock);
	m->bypass = NULL;
	bypass_put(b);
}
