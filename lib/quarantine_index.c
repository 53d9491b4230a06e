#include "quarantine_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "hash.h"
#include "report.h"

#define INDEX_NAME "quarantine.jsonl"

/* What somebody removed is noticed when the bound is reached, but not more often. */
#define RECOUNT_SECONDS 10

static int64_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* ---- counting what is there ---- */

/* Which uid a stored file is charged to, by the hash of its name; filled from the index.
 */
struct owners {
	struct owner {
		uint64_t name;
		uid_t uid;
	} * list;
	size_t count, cap;
};

static int owner_order(const void *a, const void *b)
{
	const struct owner *x = a, *y = b;

	return (x->name > y->name) - (x->name < y->name);
}

static int owners_add(struct owners *o, const char *name, uid_t uid)
{
	if (o->count == o->cap) {
		size_t cap = o->cap ? o->cap * 2 : 256;
		void *grown = realloc(o->list, cap * sizeof(*o->list));

		if (!grown)
			return -ENOMEM;
		o->list = grown;
		o->cap = cap;
	}
	o->list[o->count++] = (struct owner){
	    .name = jsonl_hash(1, name, strlen(name)),
	    .uid = uid,
	};
	return 0;
}

static void recall_line(struct jsonl_quarantine *q, struct owners *owners,
			const char *line)
{
	struct jsonl_report *r = jsonl_report_parse(line);
	const char *name = jsonl_report_get_string(r, "file");
	const char *event = jsonl_report_get_string(r, "event");
	const char *hash = jsonl_report_get_string(r, "hash");
	uid_t uid = (uid_t)jsonl_report_get_uint(r, "uid");
	struct jsonl_quarantine_recent *recent;

	if (name && event && strcmp(event, "joined") == 0) {
		recent = jsonl_quarantine_table_by_name(&q->table, name);
		if (recent)
			jsonl_quarantine_table_changed(&q->table, recent);
	} else if (name && hash && owners_add(owners, name, uid) == 0) {
		recent =
		    jsonl_quarantine_table_add(&q->table, strtoull(hash, NULL, 16), uid);
		if (recent && !(recent->name = strdup(name)))
			jsonl_quarantine_table_forget(&q->table, recent);
	}
	jsonl_report_free(r);
}

/* A line that is no index line (a crash tore it, somebody edited it) is passed over. */
static int recall_index(struct jsonl_quarantine *q, struct owners *owners)
{
	int fd = q->io->openat(q->io, q->state_fd, INDEX_NAME,
			       O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	cleanup_free char *line = NULL;
	struct stat st;
	size_t size = 0;
	FILE *f;
	int rc;

	q->index_blocks = 0;
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	rc = q->io->fstat(q->io, fd, &st);
	f = rc ? NULL : fdopen(fd, "r");
	if (!f) {
		q->io->close(q->io, fd);
		return rc ? rc : -ENOMEM;
	}
	q->index_blocks = jsonl_quarantine_blocks((uint64_t)st.st_size);
	q->table.bytes += q->index_blocks;
	while (getline(&line, &size, f) > 0)
		recall_line(q, owners, line);
	fclose(f);
	return 0;
}

static int count_file(struct jsonl_quarantine *q, const struct owners *owners,
		      const char *name)
{
	struct owner key = {.name = jsonl_hash(1, name, strlen(name))};
	const struct owner *owner = NULL;
	struct stat st;
	uint64_t blocks;

	if (fstatat(q->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	if (owners->count)
		owner =
		    bsearch(&key, owners->list, owners->count, sizeof(key), owner_order);
	blocks = jsonl_quarantine_blocks((uint64_t)st.st_size);
	q->table.entries++;
	return jsonl_quarantine_table_charge(&q->table, owner ? owner->uid : st.st_uid,
					     blocks ? blocks : JSONL_QUARANTINE_BLOCK);
}

static int count_directory(struct jsonl_quarantine *q, const struct owners *owners)
{
	int fd = q->io->openat(q->io, q->dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	struct dirent *entry;
	int rc = 0;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		q->io->close(q->io, fd);
		return -ENOMEM;
	}
	/* No other thread has this stream. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (rc == 0 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = count_file(q, owners, entry->d_name);
	closedir(dir);
	return rc;
}

/* Takes stock anew; what cannot be counted counts as before. Under lock, and only while
 * nothing is in flight. */
int jsonl_quarantine_recount(struct jsonl_quarantine *q)
{
	struct jsonl_quarantine_table *old = malloc(sizeof(*old));
	uint64_t index_blocks = q->index_blocks;
	struct owners owners = {0};
	int rc;

	if (!old)
		return -ENOMEM;
	*old = q->table;
	memset(&q->table, 0, sizeof(q->table));
	q->table.max = old->max;
	q->last_recount = seconds_now();
	rc = recall_index(q, &owners);
	if (owners.count)
		qsort(owners.list, owners.count, sizeof(*owners.list), owner_order);
	if (rc == 0)
		rc = count_directory(q, &owners);
	free(owners.list);
	if (rc == 0) {
		jsonl_quarantine_table_clear(old);
	} else {
		jsonl_quarantine_table_clear(&q->table);
		q->table = *old;
		q->index_blocks = index_blocks;
	}
	free(old);
	return rc;
}

bool jsonl_quarantine_refresh(struct jsonl_quarantine *q)
{
	if (q->inflight || seconds_now() - q->last_recount < RECOUNT_SECONDS)
		return false;
	return jsonl_quarantine_recount(q) == 0;
}

/* ---- the index ---- */

/* Opens the index; again when somebody has put another in its place. Fills st. */
static int index_open(struct jsonl_quarantine *q, struct stat *st)
{
	int flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
	char last = '\n';
	int rc, fd;

	if (q->index_fd >= 0) {
		rc = q->io->fstat(q->io, q->index_fd, st);
		if (rc == 0 && st->st_nlink > 0)
			return 0;
		q->io->close(q->io, steal_fd(&q->index_fd));
	}
	fd = q->io->openat(q->io, q->state_fd, INDEX_NAME, flags, 0);
	if (fd == -ENOENT) {
		fd = q->io->openat(q->io, q->state_fd, INDEX_NAME,
				   flags | O_CREAT | O_EXCL, 0600);
		q->index_new = fd >= 0;
	}
	if (fd < 0)
		return fd;
	rc = q->io->fstat(q->io, fd, st);
	if (rc == 0 && !S_ISREG(st->st_mode))
		rc = -EINVAL;
	if (rc == 0 && st->st_size > 0 &&
	    q->io->pread(q->io, fd, &last, 1, st->st_size - 1) != 1)
		rc = -EIO;
	if (rc < 0) {
		q->io->close(q->io, fd);
		return rc;
	}
	q->index_fd = fd;
	q->index_torn = last != '\n';
	return 0;
}

int jsonl_quarantine_index_append(struct jsonl_quarantine *q, const char *line)
{
	struct iovec iov[2] = {{.iov_base = (char *)"\n"},
			       {.iov_base = (char *)line, .iov_len = strlen(line)}};
	size_t written = 0;
	struct stat st;
	uint64_t blocks;
	int rc;

	rc = index_open(q, &st);
	if (rc < 0)
		return rc;
	iov[0].iov_len = q->index_torn;
	rc = jsonl_io_write_full(q->io, q->index_fd, iov, 2, &written);
	if (rc < 0) {
		if (written)
			(void)!q->io->ftruncate(q->io, q->index_fd, st.st_size);
		/* The next line looks again at what the index ends with. */
		q->io->close(q->io, steal_fd(&q->index_fd));
		return rc;
	}
	q->index_torn = false;
	blocks = jsonl_quarantine_blocks((uint64_t)st.st_size + written);
	q->table.bytes += blocks - q->index_blocks;
	q->index_blocks = blocks;
	return 0;
}

int jsonl_quarantine_index_sync(struct jsonl_quarantine *q)
{
	struct stat st;
	int fd, rc;
	bool created;

	/* A duplicate: the index may be opened anew meanwhile. */
	pthread_mutex_lock(&q->lock);
	rc = index_open(q, &st);
	created = q->index_new;
	fd = rc < 0 ? -1 : fcntl(q->index_fd, F_DUPFD_CLOEXEC, 3);
	if (rc == 0 && fd < 0)
		rc = -errno;
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		return rc;
	rc = q->io->fdatasync(q->io, fd);
	close(fd);
	if (rc == 0 && created)
		rc = q->io->fsync(q->io, q->state_fd);
	if (rc == 0 && created) {
		pthread_mutex_lock(&q->lock);
		q->index_new = false;
		pthread_mutex_unlock(&q->lock);
	}
	return rc;
}
