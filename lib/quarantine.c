#include "quarantine_internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "hash.h"
#include "report.h"

#define DIR_NAME     "quarantine"
#define SETTLE_TRIES 1000 /* of a millisecond */

static bool is_entry(const char *name)
{
	return name[0] != '\0' && name[0] != '.' && !strchr(name, '/');
}

/* Of the path and the bytes; never 0, which stands for none. */
static uint64_t hash_item(const struct jsonl_quarantine_item *item)
{
	uint64_t hash = jsonl_hash(JSONL_HASH_START, item->path, strlen(item->path) + 1);

	for (int i = 0; i < item->niov; i++)
		hash = jsonl_hash(hash, item->iov[i].iov_base, item->iov[i].iov_len);
	return hash ? hash : 1;
}

int64_t jsonl_quarantine_stamp(struct jsonl_quarantine *q)
{
	struct timespec now;
	int64_t ns;

	clock_gettime(CLOCK_REALTIME, &now);
	ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
	if (ns <= q->last_stamp)
		ns = q->last_stamp + 1;
	q->last_stamp = ns;
	return ns;
}

void jsonl_quarantine_format(int64_t stamp, const char *format, char *buf, size_t size)
{
	time_t seconds = (time_t)(stamp / 1000000000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	if (strftime(buf, size, format, &tm) == 0)
		buf[0] = '\0';
}

/* True: the entry `name` stands for these bytes. Under lock, which is let go
 * meanwhile. */
static bool known_already(struct jsonl_quarantine *q, uint64_t hash,
			  const struct jsonl_quarantine_item *item,
			  char name[JSONL_QUARANTINE_NAME])
{
	struct jsonl_quarantine_recent *r;

	while ((r = jsonl_quarantine_table_find(&q->table, hash))) {
		bool durable = r->durable, holds;

		if (r->busy) {
			pthread_cond_wait(&q->stored, &q->lock);
			continue;
		}
		(void)snprintf(name, JSONL_QUARANTINE_NAME, "%s", r->name);
		pthread_mutex_unlock(&q->lock);
		holds =
		    jsonl_quarantine_file_holds(q, name, item->durable && !durable, item);
		if (holds && item->durable && !durable)
			holds = jsonl_quarantine_index_sync(q) == 0;
		pthread_mutex_lock(&q->lock);
		if (holds)
			return true;
		/* Gone, changed, or another text of the same hash: the next of that hash
		 * takes its place. */
		r = jsonl_quarantine_table_find(&q->table, hash);
		if (r && !r->busy && strcmp(r->name, name) == 0)
			jsonl_quarantine_table_forget(&q->table, r);
	}
	return false;
}

/* Charges the bytes and announces the entry. Under lock. */
static int admit(struct jsonl_quarantine *q, const struct jsonl_quarantine_item *item,
		 uint64_t blocks, uint64_t hash, struct jsonl_quarantine_recent **recent)
{
	struct jsonl_quarantine_table *t = &q->table;
	int rc;

	if (!jsonl_quarantine_table_fits(t, item->uid, blocks, item->reserved) &&
	    !(jsonl_quarantine_refresh(q) &&
	      jsonl_quarantine_table_fits(t, item->uid, blocks, item->reserved)))
		return -ENOSPC;
	rc = jsonl_quarantine_table_charge(t, item->uid, blocks);
	if (rc < 0)
		return rc;
	q->inflight++;
	t->entries++;
	*recent = jsonl_quarantine_table_add(t, item->joinable ? 0 : hash, item->uid);
	if (*recent)
		(*recent)->busy = true;
	return 0;
}

/* Ends what admit() began: `name` is NULL when nothing was stored. Under lock. */
static void settle(struct jsonl_quarantine *q, const struct jsonl_quarantine_item *item,
		   uint64_t blocks, struct jsonl_quarantine_recent *recent,
		   const char *name, bool remember)
{
	q->inflight--;
	if (!name) {
		jsonl_quarantine_table_refund(&q->table, item->uid, blocks);
		q->table.entries--;
	}
	if (recent) {
		recent->busy = false;
		recent->durable = item->durable;
		recent->name = remember ? strdup(name) : NULL;
		if (!recent->name)
			jsonl_quarantine_table_forget(&q->table, recent);
		pthread_cond_broadcast(&q->stored);
	}
}

static void add_time(struct jsonl_report *r, int64_t stamp)
{
	char seconds[32], text[48];

	jsonl_quarantine_format(stamp, "%Y-%m-%dT%H:%M:%S", seconds, sizeof(seconds));
	(void)snprintf(text, sizeof(text), "%s.%09dZ", seconds,
		       (int)(stamp % 1000000000));
	jsonl_report_add_string(r, "time", text);
}

static char *index_line(const struct jsonl_quarantine_item *item, int64_t stamp,
			uint64_t hash, const char *name)
{
	struct jsonl_report *r = jsonl_report_object();
	char text[20], *line;

	add_time(r, stamp);
	jsonl_report_add_string(r, "event", item->event);
	jsonl_report_add_string(r, "file", name);
	jsonl_report_add_string(r, "path", item->path);
	jsonl_report_add_string(r, "reason", jsonl_error_name(item->code));
	jsonl_report_add_string(r, "text", jsonl_error_text(item->code));
	jsonl_report_add_uint(r, "offset", item->offset);
	jsonl_report_add_int(r, "at", item->at);
	jsonl_report_add_uint(r, "bytes", jsonl_quarantine_bytes(item->iov, item->niov));
	jsonl_report_add_int(r, "pid", item->pid);
	jsonl_report_add_uint(r, "uid", item->uid);
	if (item->program)
		jsonl_report_add_string(r, "program", item->program);
	(void)snprintf(text, sizeof(text), "%016llx", (unsigned long long)hash);
	jsonl_report_add_string(r, "hash", text);
	line = jsonl_report_text(r, false);
	jsonl_report_free(r);
	return line;
}

static int append_line(struct jsonl_quarantine *q, const char *line)
{
	int rc;

	if (!line)
		return -ENOMEM;
	pthread_mutex_lock(&q->lock);
	rc = jsonl_quarantine_index_append(q, line);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* File, then its line in the index. Without lock. */
static int store(struct jsonl_quarantine *q, const struct jsonl_quarantine_item *item,
		 int64_t stamp, uint64_t hash, char name[JSONL_QUARANTINE_NAME])
{
	cleanup_free char *line = NULL;
	int rc;

	rc = jsonl_quarantine_file_store(q, item, &stamp, name);
	if (rc < 0)
		return rc;
	line = index_line(item, stamp, hash, name);
	rc = append_line(q, line);
	if (rc < 0)
		(void)q->io->unlinkat(q->io, q->dir_fd, name);
	return rc;
}

int jsonl_quarantine_put(struct jsonl_quarantine *q,
			 const struct jsonl_quarantine_item *item,
			 char name[JSONL_QUARANTINE_NAME])
{
	struct jsonl_quarantine_recent *recent = NULL;
	uint64_t blocks, hash;
	char own[JSONL_QUARANTINE_NAME];
	int64_t stamp;
	int rc, synced = 0;

	if (q->dir_fd < 0)
		return -EROFS;
	blocks = jsonl_quarantine_blocks(jsonl_quarantine_bytes(item->iov, item->niov));
	blocks = blocks ? blocks : JSONL_QUARANTINE_BLOCK;
	hash = hash_item(item);
	name = name ? name : own;
	pthread_mutex_lock(&q->lock);
	if (!item->joinable && known_already(q, hash, item, name)) {
		pthread_mutex_unlock(&q->lock);
		return 0;
	}
	rc = admit(q, item, blocks, hash, &recent);
	stamp = jsonl_quarantine_stamp(q);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		return rc;

	rc = store(q, item, stamp, hash, name);
	if (rc == 0 && item->durable)
		synced = jsonl_quarantine_index_sync(q);
	/* What could not be made durable is kept, but the same bytes are stored anew when
	 * they come again: a second sync of the same pages would prove nothing. */
	pthread_mutex_lock(&q->lock);
	settle(q, item, blocks, recent, rc == 0 ? name : NULL, rc == 0 && synced == 0);
	pthread_mutex_unlock(&q->lock);
	return rc ? rc : synced;
}

/* ---- join ---- */

/* The room that `len` bytes more need behind `size` bytes, charged to the entry's uid. */
static int admit_more(struct jsonl_quarantine *q, const char *name, const struct stat *st,
		      size_t len, uint64_t *blocks, uid_t *uid)
{
	struct jsonl_quarantine_recent *r;
	uint64_t size = (uint64_t)st->st_size;
	int rc = 0;

	*blocks = jsonl_quarantine_blocks(size + len) -
		  jsonl_quarantine_blocks(size ? size : 1);
	pthread_mutex_lock(&q->lock);
	r = jsonl_quarantine_table_by_name(&q->table, name);
	*uid = r ? r->uid : st->st_uid;
	if (*blocks && !jsonl_quarantine_table_fits(&q->table, *uid, *blocks, false))
		rc = -ENOSPC;
	if (rc == 0)
		rc = jsonl_quarantine_table_charge(&q->table, *uid, *blocks);
	if (rc == 0) {
		q->inflight++;
		if (r)
			jsonl_quarantine_table_changed(&q->table, r);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

static int append_bytes(struct jsonl_quarantine *q, int fd, off_t size,
			const struct iovec *iov, int niov, bool durable)
{
	size_t written;
	int rc;

	rc = jsonl_io_write_full(q->io, fd, iov, niov, &written);
	if (rc == 0 && durable)
		rc = q->io->fsync(q->io, fd);
	if (rc < 0 && written)
		(void)q->io->ftruncate(q->io, fd, size);
	return rc;
}

static char *joined_line(int64_t stamp, const char *name, size_t bytes)
{
	struct jsonl_report *r = jsonl_report_object();
	char *line;

	add_time(r, stamp);
	jsonl_report_add_string(r, "event", "joined");
	jsonl_report_add_string(r, "file", name);
	jsonl_report_add_uint(r, "bytes", bytes);
	line = jsonl_report_text(r, false);
	jsonl_report_free(r);
	return line;
}

static int join(struct jsonl_quarantine *q, int fd, const char *name,
		const struct iovec *iov, int niov, bool durable)
{
	size_t len = jsonl_quarantine_bytes(iov, niov);
	cleanup_free char *line = NULL;
	struct stat st;
	uint64_t blocks = 0;
	int64_t stamp;
	uid_t uid = 0;
	int rc;

	rc = q->io->fstat(q->io, fd, &st);
	if (rc == 0 && !S_ISREG(st.st_mode))
		rc = -EINVAL;
	if (rc == 0)
		rc = admit_more(q, name, &st, len, &blocks, &uid);
	if (rc < 0)
		return rc;
	rc = append_bytes(q, fd, st.st_size, iov, niov, durable);
	pthread_mutex_lock(&q->lock);
	q->inflight--;
	stamp = jsonl_quarantine_stamp(q);
	if (rc < 0)
		jsonl_quarantine_table_refund(&q->table, uid, blocks);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		return rc;
	/* The bytes are kept; the line only says so, and its loss loses nothing. */
	line = joined_line(stamp, name, len);
	if (append_line(q, line) == 0 && durable)
		(void)!jsonl_quarantine_index_sync(q);
	return 0;
}

int jsonl_quarantine_join(struct jsonl_quarantine *q, const char *name,
			  const struct iovec *iov, int niov, bool durable)
{
	int fd, rc;

	if (q->dir_fd < 0)
		return -EROFS;
	if (!is_entry(name))
		return -EINVAL;
	fd = q->io->openat(q->io, q->dir_fd, name,
			   O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	rc = join(q, fd, name, iov, niov, durable);
	q->io->close(q->io, fd);
	return rc;
}

/* ---- what people do with entries ---- */

int jsonl_quarantine_drop(struct jsonl_quarantine *q, const char *name)
{
	if (q->dir_fd < 0)
		return -EROFS;
	return is_entry(name) ? q->io->unlinkat(q->io, q->dir_fd, name) : -EINVAL;
}

int jsonl_quarantine_settle(struct jsonl_quarantine *q)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	int rc;

	if (q->dir_fd < 0)
		return -EROFS;
	rc = q->io->fsync(q->io, q->dir_fd);
	/* Stock is taken between two puts; failing that, when room is needed. */
	for (int i = 0; rc == 0 && i < SETTLE_TRIES; i++) {
		bool idle;

		pthread_mutex_lock(&q->lock);
		idle = q->inflight == 0;
		if (idle)
			rc = jsonl_quarantine_recount(q);
		pthread_mutex_unlock(&q->lock);
		if (idle)
			break;
		(void)nanosleep(&pause, NULL);
	}
	return rc;
}

int jsonl_quarantine_restored(struct jsonl_quarantine *q, const char *name,
			      uint64_t records)
{
	struct jsonl_report *r = jsonl_report_object();
	cleanup_free char *line = NULL;
	int64_t stamp;

	pthread_mutex_lock(&q->lock);
	stamp = jsonl_quarantine_stamp(q);
	pthread_mutex_unlock(&q->lock);
	add_time(r, stamp);
	jsonl_report_add_string(r, "event", "restored");
	jsonl_report_add_string(r, "file", name);
	jsonl_report_add_uint(r, "records", records);
	line = jsonl_report_text(r, false);
	jsonl_report_free(r);
	if (q->dir_fd < 0)
		return -EROFS;
	return is_entry(name) ? append_line(q, line) : -EINVAL;
}

void jsonl_quarantine_usage(struct jsonl_quarantine *q, uint64_t *bytes,
			    uint64_t *entries)
{
	pthread_mutex_lock(&q->lock);
	*bytes = q->table.bytes;
	*entries = q->table.entries;
	pthread_mutex_unlock(&q->lock);
}

/* ---- beginning and end ---- */

static int open_directory(struct jsonl_quarantine *q)
{
	struct stat st;
	int fd;

	if (mkdirat(q->state_fd, DIR_NAME, 0711) == 0) {
		/* The umask may have taken something away. */
		if (fchmodat(q->state_fd, DIR_NAME, 0711, 0) < 0)
			return -errno;
	} else if (errno != EEXIST && errno != EROFS) {
		return -errno;
	}
	fd = q->io->openat(q->io, q->state_fd, DIR_NAME,
			   O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	/* On a disk that cannot be written put() will say so. */
	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	q->dir_fd = fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* Whoever owns the directory could put other bytes in the place of ours. */
	return st.st_uid == 0 || st.st_uid == geteuid() ? 0 : -EPERM;
}

int jsonl_quarantine_new(const struct jsonl_io *io, int state_fd, uint64_t max_bytes,
			 struct jsonl_quarantine **out)
{
	struct jsonl_quarantine *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return -ENOMEM;
	q->io = io;
	q->index_fd = q->dir_fd = -1;
	q->table.max = max_bytes;
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->stored, NULL);
	q->state_fd = -1;
	if (state_fd < 0) {
		*out = q;
		return 0;
	}
	q->state_fd = fcntl(state_fd, F_DUPFD_CLOEXEC, 3);
	rc = q->state_fd < 0 ? -errno : open_directory(q);
	if (rc == 0 && q->dir_fd >= 0)
		rc = jsonl_quarantine_recount(q);
	if (rc < 0) {
		jsonl_quarantine_free(q);
		return rc;
	}
	*out = q;
	return 0;
}

void jsonl_quarantine_bound(struct jsonl_quarantine *q, uint64_t max_bytes)
{
	pthread_mutex_lock(&q->lock);
	q->table.max = max_bytes;
	pthread_mutex_unlock(&q->lock);
}

void jsonl_quarantine_free(struct jsonl_quarantine *q)
{
	if (!q)
		return;
	if (q->index_fd >= 0)
		q->io->close(q->io, q->index_fd);
	if (q->dir_fd >= 0)
		q->io->close(q->io, q->dir_fd);
	if (q->state_fd >= 0)
		close(q->state_fd);
	jsonl_quarantine_table_clear(&q->table);
	pthread_cond_destroy(&q->stored);
	pthread_mutex_destroy(&q->lock);
	free(q);
}
