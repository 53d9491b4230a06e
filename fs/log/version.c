/* SPDX-License-Identifier: MIT */
#include "log/version.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/stamp.h"
#include "base/error.h"
#include "file/file.h"
#include "log/openlog.h"
#include "tree/handles.h"
#include "vault/account.h"

/* An open(2) that looked the name up before a replacement, and whose OPEN comes after it,
 * takes no longer; the program that replaces the log gets its answer later (notify.c). */
#define JOIN_MS 50

struct fs_log_version {
	unsigned users;		  /* under lock, like the next two */
	struct fs_account *payer; /* pays for the descriptor */
	bool paid;
	int fd; /* constant, as what follows */
	off_t end;
	int64_t replaced; /* when it was replaced */
};

/* A leaf: users of all versions, and the change of a handle from one to the other. On no
 * way of a log that has not been replaced. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Stands for versions that could not be kept; never freed. */
static struct fs_log_version lost = {.users = 1, .fd = -1};

int fs_version_new(struct fs_openlog *s, struct fs_log_version **version)
{
	struct jsonl_file *file = fs_openlog_file(s);
	struct fs_log_version *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return -ENOMEM;
	v->users = 1;
	v->replaced = jsonl_now_ms();
	rc = jsonl_file_visible(file, &v->end);
	if (!rc) {
		v->fd = fcntl(jsonl_file_fd(file), F_DUPFD_CLOEXEC, 3);
		rc = v->fd < 0 ? -errno : 0;
	}
	if (rc)
		free(v);
	else
		*version = v;
	return rc;
}

void fs_version_put(struct fs_log_version *v)
{
	bool last;

	if (!v)
		return;
	pthread_mutex_lock(&lock);
	last = !--v->users;
	pthread_mutex_unlock(&lock);
	if (last) {
		fs_account_descriptor_close(v->payer);
		close(v->fd);
		free(v);
	}
}

int fs_version_fd(const struct fs_log_version *v)
{
	return v->fd;
}

off_t fs_version_end(const struct fs_log_version *v)
{
	return v->end;
}

bool fs_reading_stay(struct fs_reading *r, struct fs_log_version *v,
		     struct fs_vault *vault, uid_t uid)
{
	bool stays;

	pthread_mutex_lock(&lock);
	stays = !r->version;
	if (stays && !v->paid) {
		v->paid = fs_account_descriptor(vault, uid, &v->payer) == 0;
		if (!v->paid)
			v = &lost;
	}
	if (stays) {
		v->users++;
		r->version = v;
	}
	pthread_mutex_unlock(&lock);
	return stays;
}

bool fs_reading_join(struct fs_reading *r, struct fs_handle *other)
{
	struct fs_log_version *v = fs_reading_hold(r);
	bool joins = v && jsonl_now_ms() - v->replaced < JOIN_MS && other->ops->stay &&
		     other->ops->stay(other, v);

	fs_version_put(v);
	return joins;
}

void fs_reading_go_over(struct fs_reading *r)
{
	struct fs_log_version *v;

	if (!r->version)
		return;
	pthread_mutex_lock(&lock);
	v = atomic_exchange(&r->version, NULL);
	pthread_mutex_unlock(&lock);
	fs_version_put(v);
}

struct fs_log_version *fs_reading_hold(struct fs_reading *r)
{
	struct fs_log_version *v;

	if (!r->version)
		return NULL;
	pthread_mutex_lock(&lock);
	v = r->version;
	if (v)
		v->users++;
	pthread_mutex_unlock(&lock);
	return v;
}

bool fs_reading_stat(struct fs_reading *r, struct stat *st)
{
	struct fs_log_version *v = fs_reading_hold(r);
	bool done = v && fstat(v->fd, st) == 0;

	if (done)
		st->st_size = v->end;
	fs_version_put(v);
	return done;
}
