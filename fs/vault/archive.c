/* SPDX-License-Identifier: MIT */
#include "vault/archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "base/stamp.h"
#include "base/copy.h"
#include "base/error.h"
#include "base/path.h"
#include "base/syslog.h"
#include "vault/archive_table.h"
#include "vault/deferred.h"
#include "vault/vault.h"

#define DAY 86400

struct fs_archive {
	bool (*is_open)(struct fs_vault *v, dev_t dev, ino_t ino); /* constant */
	dev_t dev;						   /* constant */
	pthread_mutex_t lock;
	/* Under lock: */
	struct fs_archive_table table;
	uint64_t days;
	unsigned growing; /* entries that are marked so */
	int64_t grown_at; /* time of the last look at them, CLOCK_MONOTONIC seconds */
};

/* ---- who has an entry open ---- */

static bool has_writers(struct fs_vault *v, ino_t ino)
{
	return ino && v->archive->is_open(v, v->archive->dev, ino);
}

static bool entry_busy(void *ctx, const struct fs_archive_entry *e)
{
	return e->growing && has_writers(ctx, e->ino);
}

/* Adds what programs have written to entries since the last look. Under lock. */
static void note_growth(struct fs_vault *v)
{
	struct fs_archive *a = v->archive;
	int64_t now = jsonl_now_ms() / 1000;

	if (!a->growing || a->grown_at == now)
		return;
	a->grown_at = now;
	for (size_t i = 0; i < a->table.count; i++) {
		struct fs_archive_entry *e = &a->table.list[i];
		bool open;
		struct stat st;

		if (!e->growing)
			continue;
		open = has_writers(v, e->ino);
		if (fstatat(v->archive_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			fs_archive_table_resize(&a->table, i, (uint64_t)st.st_size);
		e->growing = open;
		a->growing -= !open;
	}
}

/* ---- evicting ---- */

struct eviction {
	struct fs_job job; /* first: cast back */
	struct fs_vault *v;
	struct fs_archive_entry *list;
	size_t n;
	const char *why;
};

static int eviction_run(struct fs_job *job, bool last)
{
	struct eviction *e = (struct eviction *)job;
	struct fs_vault *v = e->v;

	for (size_t i = 0; i < e->n; i++) {
		struct fs_archive_entry *entry = &e->list[i];

		if (unlinkat(v->archive_fd, entry->name, 0) == 0) {
			v->stats.evicted++;
			FS_SYSLOG(LOG_NOTICE, entry->payer, "archive-evicted",
				  FS_STR("archive", entry->name),
				  FS_INT("length", entry->bytes),
				  FS_INT("uid", entry->payer), FS_STR("reason", e->why));
		}
		free(entry->name);
	}
	free(e->list);
	free(e);
	return 0;
}

/* Deletes the files of entries that are out of the table, by the pool, or here if that is
 * not possible. */
static void evict(struct fs_vault *v, struct fs_archive_entry *list, size_t n,
		  const char *why)
{
	struct eviction *e = n ? malloc(sizeof(*e)) : NULL;

	if (!e) {
		for (size_t i = 0; i < n; i++) {
			(void)unlinkat(v->archive_fd, list[i].name, 0);
			free(list[i].name);
		}
		free(list);
		return;
	}
	*e = (struct eviction){.job = {.run = eviction_run, .timeout_ms = 3600000},
			       .v = v,
			       .list = list,
			       .n = n,
			       .why = why};
	if (fs_defer(v, &e->job))
		eviction_run(&e->job, true);
}

void fs_archive_expire(struct fs_vault *v)
{
	struct fs_archive *a = v->archive;
	struct fs_archive_entry *list = NULL;
	size_t n = 0;

	if (v->archive_fd < 0 || v->config.readonly)
		return;
	pthread_mutex_lock(&a->lock);
	note_growth(v);
	(void)!fs_archive_table_expire(&a->table, time(NULL) - (int64_t)a->days * DAY,
				       entry_busy, v, &list, &n);
	pthread_mutex_unlock(&a->lock);
	evict(v, list, n, "older than archive_age");
}

/* ---- taking stock ---- */

static int count_entry(struct fs_vault *v, const char *name)
{
	struct fs_archive_entry e = {0};
	struct jsonl_archived said;
	struct stat st;
	int rc;

	if (fstatat(v->archive_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	jsonl_archived_parse(name, &said);
	e.payer = said.payer == JSONL_ARCHIVED_OWNER ? st.st_uid : said.payer;
	e.foreign = e.payer != st.st_uid;
	e.time = said.time < 0 ? st.st_ctime : said.time;
	e.bytes = (uint64_t)st.st_size;
	e.ino = st.st_ino;
	e.name = strdup(name);
	rc = e.name ? fs_archive_table_enter(&v->archive->table, &e) : -ENOMEM;
	if (rc) {
		free(e.name);
		return rc;
	}
	return jsonl_shares_charge(&v->archive->table.shares, e.payer, e.bytes, 1);
}

static int take_stock(struct fs_vault *v)
{
	struct dirent *e;
	struct stat st;
	int rc;
	DIR *dir = fs_directory_open(v->archive_fd, &rc);

	if (!dir)
		return rc;
	if (fstat(v->archive_fd, &st) == 0)
		v->archive->dev = st.st_dev;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): our own stream */
	while (!rc && (e = readdir(dir)))
		rc = count_entry(v, e->d_name);
	closedir(dir);
	return rc;
}

int fs_archive_init(struct fs_vault *v,
		    bool (*is_open)(struct fs_vault *v, dev_t dev, ino_t ino))
{
	v->archive = calloc(1, sizeof(*v->archive));
	if (!v->archive)
		return -ENOMEM;
	v->archive->is_open = is_open;
	pthread_mutex_init(&v->archive->lock, NULL);
	v->archive->table.max = v->config.archive_max;
	v->archive->days = v->config.archive_age;
	return v->archive_fd < 0 ? 0 : take_stock(v);
}

void fs_archive_deinit(struct fs_vault *v)
{
	if (!v->archive)
		return;
	fs_archive_table_clear(&v->archive->table);
	pthread_mutex_destroy(&v->archive->lock);
	free(steal_ptr(&v->archive));
}

void fs_archive_bound(struct fs_vault *v, uint64_t max, uint64_t days)
{
	if (!v->archive)
		return;
	pthread_mutex_lock(&v->archive->lock);
	v->archive->table.max = max;
	v->archive->days = days;
	pthread_mutex_unlock(&v->archive->lock);
}

void fs_archive_usage(struct fs_vault *v, struct fs_archive_usage *usage)
{
	struct fs_archive *a = v->archive;

	pthread_mutex_lock(&a->lock);
	note_growth(v);
	usage->bytes = a->table.shares.bytes;
	usage->entries = a->table.shares.entries;
	usage->max = a->table.max;
	usage->percent = fs_archive_table_percent(&a->table);
	pthread_mutex_unlock(&a->lock);
}

/* ---- room ---- */

int fs_archive_reserve(struct fs_vault *v, const struct fs_archive_claim *claim,
		       uint64_t bytes, unsigned entries)
{
	struct fs_archive *a = v->archive;
	struct fs_archive_entry *list = NULL;
	size_t n = 0;
	int rc;

	if (v->archive_fd < 0 || v->config.readonly)
		return -EROFS;
	pthread_mutex_lock(&a->lock);
	note_growth(v);
	rc =
	    fs_archive_table_make_room(&a->table, claim, bytes, entry_busy, v, &list, &n);
	if (!rc)
		rc = jsonl_shares_charge(&a->table.shares, fs_archive_payer(claim), bytes,
					     entries);
	pthread_mutex_unlock(&a->lock);
	evict(v, list, n, "room for what was removed later");
	return rc;
}

void fs_archive_release(struct fs_vault *v, const struct fs_archive_claim *claim,
			uint64_t bytes, unsigned entries)
{
	pthread_mutex_lock(&v->archive->lock);
	jsonl_shares_refund(&v->archive->table.shares, fs_archive_payer(claim), bytes,
				entries);
	pthread_mutex_unlock(&v->archive->lock);
}

void fs_archive_entered(struct fs_vault *v, const struct fs_archive_claim *claim,
			const char *name, uint64_t bytes, ino_t ino)
{
	struct fs_archive *a = v->archive;
	struct fs_archive_entry e = {
	    .name = strdup(name),
	    .payer = fs_archive_payer(claim),
	    .foreign = fs_archive_payer(claim) != claim->owner,
	    .bytes = bytes,
	    .ino = ino,
	    .time = time(NULL),
	    .growing = has_writers(v, ino),
	};

	v->stats.archived++;
	pthread_mutex_lock(&a->lock);
	/* A file that cannot be entered is not counted until the next mount. */
	if (!e.name || fs_archive_table_enter(&a->table, &e))
		free(e.name);
	else
		a->growing += e.growing;
	pthread_mutex_unlock(&a->lock);
}

int fs_archive_drop(struct fs_vault *v, const char *name, uint64_t *bytes)
{
	struct fs_archive *a = v->archive;
	struct fs_archive_entry e = {0};
	struct stat st;
	size_t at;

	if (fstatat(v->archive_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (unlinkat(v->archive_fd, name, 0) < 0)
		return -errno;
	*bytes = (uint64_t)st.st_size;
	pthread_mutex_lock(&a->lock);
	at = fs_archive_table_find(&a->table, name);
	/* Files that other programs have put there since the mount were never
	 * counted. */
	if (at < a->table.count) {
		fs_archive_table_take(&a->table, at, &e);
		a->growing -= e.growing;
	}
	pthread_mutex_unlock(&a->lock);
	free(e.name);
	return 0;
}

/* ---- what is there already ---- */

/* Finds the next entry of this size from *at on; its name, or NULL. */
static char *next_of_size(struct fs_archive *a, uint64_t size, size_t *at)
{
	char *name = NULL;

	pthread_mutex_lock(&a->lock);
	while (!name && *at < a->table.count) {
		struct fs_archive_entry *e = &a->table.list[(*at)++];

		if (e->bytes == size)
			name = strdup(e->name);
	}
	pthread_mutex_unlock(&a->lock);
	return name;
}

bool fs_archive_holds(struct fs_vault *v, int fd, off_t size)
{
	bool holds = false;
	size_t at = 0;
	char *name;

	if (v->archive_fd < 0)
		return false;
	while (!holds && (name = next_of_size(v->archive, (uint64_t)size, &at))) {
		cleanup_close int entry = openat(
		    v->archive_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

		holds = entry >= 0 && fs_same_bytes(v->io, fd, entry, 0, size) == 1;
		free(name);
	}
	return holds;
}
