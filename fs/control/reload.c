/* SPDX-License-Identifier: MIT */
#include "control/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/path.h"
#include "base/syslog.h"
#include "log/openlog.h"
#include "quarantine/quarantine.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/handles.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "vault/archive.h"
#include "vault/config.h"

#define RELOAD_TOLD 20 /* open files that are named in the log */

struct fs_reload {
	pthread_mutex_t turn; /* one reload at a time; before any other lock; under it: */
	bool ready, wanted;
	/* Where the file lies, if the mount hides it. */
	int dir; /* O_PATH; -1: m->vault.config.path leads to it */
	char *name;
};

/* ---- where it is ---- */

/* Opens the configuration file beforehand if it lies below the mount point: later the
 * daemon would have to serve it to itself. */
static int open_hidden(struct fs_mount *m, struct fs_reload *l)
{
	cleanup_free char *real = realpath(m->vault.config.path, NULL);
	size_t n =
	    strcmp(m->vault.mountpoint, "/") == 0 ? 0 : strlen(m->vault.mountpoint);
	char *slash = real ? strrchr(real, '/') : NULL;

	if (!slash || strncmp(real, m->vault.mountpoint, n) != 0 || real[n] != '/')
		return 0;
	l->name = strdup(slash + 1);
	if (!l->name)
		return -ENOMEM;
	slash[slash == real] = '\0';
	l->dir = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return l->dir < 0 ? -errno : 0;
}

/* Takes over the bounds, which are read at each comparison and so may change at any
 * moment. What was kept under a larger bound stays. */
static void take_bounds(struct fs_mount *m, const struct jsonl_config *config)
{
	atomic_store(&m->vault.pending_max, config->pending_max);
	fs_archive_bound(&m->vault, config->archive_max, config->archive_age);
	if (m->vault.quarantine) /* a read-only vault may have none */
		jsonl_quarantine_bound(m->vault.quarantine, config->quarantine_max);
}

int fs_reload_init(struct fs_mount *m)
{
	struct fs_reload *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->dir = -1;
	pthread_mutex_init(&l->turn, NULL);
	fs_snapshot_init(&m->vault.snapshot);
	m->reload = l;
	take_bounds(m, &m->vault.config);
	return m->vault.config.path ? open_hidden(m, l) : 0;
}

void fs_reload_deinit(struct fs_mount *m)
{
	struct fs_reload *l = m->reload;

	if (!l)
		return;
	if (l->dir >= 0)
		close(l->dir);
	fs_snapshot_deinit(&m->vault.snapshot);
	free(l->name);
	pthread_mutex_destroy(&l->turn);
	free(l);
	m->reload = NULL;
}

/* ---- who goes on as before ---- */

struct telling {
	struct fs_mount *m;
	char root[PATH_MAX];
	unsigned told;
};

/* Names a handle in the log. Handles in the list have an open descriptor. */
static bool tell_of_writer(struct fs_handle *h, void *ctx)
{
	struct telling *t = ctx;
	const struct fs_inode *i = h->inode;
	char path[PATH_MAX];

	if (i->class != JSONL_CLASS_PLAIN || i->type != S_IFREG || i->state ||
	    (h->flags & O_ACCMODE) == O_RDONLY || !h->ops->fd ||
	    !fs_path_below(t->root, h->ops->fd(h), path) ||
	    jsonl_policy_classify(t->m->vault.policy, path) == JSONL_CLASS_PLAIN)
		return true;
	FS_SYSLOG(LOG_WARNING, (uid_t)-1, "bypass", FS_STR("path", path),
		  FS_STR("reason", "opened before the reload that made its writes be "
				   "checked: they are not"),
		  FS_STR("next", "have its program open it again: fuser -v PATH "
				 "names the program"));
	return ++t->told < RELOAD_TOLD;
}

/* Names handles for plain files whose class is not plain any more: these bypass the
 * rules. */
static void tell_of_writers(struct fs_mount *m)
{
	struct telling t = {.m = m};

	if (fs_path_of_descriptor(m->vault.root_fd, t.root))
		fs_handles_each(m, tell_of_writer, &t);
}

/* ---- doing it ---- */

static int reload_config(struct fs_mount *m, struct fs_reload *l, char **kept,
			 char **error)
{
	char hidden[64 + NAME_MAX];
	const char *path = m->vault.config.path;
	struct jsonl_config new;
	int r;

	if (l->dir >= 0) {
		(void)snprintf(hidden, sizeof(hidden), "/proc/self/fd/%d/%s", l->dir,
			       l->name);
		path = hidden;
	}
	r = jsonl_config_reload(&m->vault.config, path, &new, kept, error);
	if (r)
		return r;
	r = jsonl_policy_reload(m->vault.policy, &new, error);
	if (r) {
		jsonl_config_deinit(&new);
		return r;
	}
	take_bounds(m, &new);
	fs_snapshot_set(&m->vault.snapshot, &new);
	/* Files that are kept open without users were opened by the old rules. */
	fs_idle_drop(m, NULL);
	return 0;
}

static int reload_in_turn(struct fs_mount *m, struct fs_reload *l, char **kept,
			  char **error)
{
	int r = reload_config(m, l, kept, error);

	if (r) {
		FS_SYSLOG(
		    LOG_ERR, (uid_t)-1, "reload-failed",
		    FS_STR("config", m->vault.config.path),
		    FS_STR("reason", *error ? *error : jsonl_error_text(r)),
		    FS_STR("next",
			   "the rules from before hold: correct the file (jsonlfsctl "
			   "config check FILE), then reload again"));
		return r;
	}
	FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "reloaded",
		  FS_STR("config", m->vault.config.path),
		  FS_INT("rules", m->vault.snapshot.config.nrules));
	if (*kept)
		FS_SYSLOG(
		    LOG_WARNING, (uid_t)-1, "reload-incomplete",
		    FS_STR("config", m->vault.config.path), FS_STR("options", *kept),
		    FS_STR("reason", "these belong to the whole mount and stay as they "
				     "were"),
		    FS_STR("next", "unmount and mount again for them"));
	tell_of_writers(m);
	return 0;
}

int fs_reload(struct fs_mount *m, char **kept, char **error)
{
	struct fs_reload *l = m->reload;
	int r = -EOPNOTSUPP;

	*kept = *error = NULL;
	if (!m->vault.config.path)
		return r;
	pthread_mutex_lock(&l->turn);
	l->wanted = !l->ready;
	r = l->ready ? reload_in_turn(m, l, kept, error) : -EBUSY;
	pthread_mutex_unlock(&l->turn);
	return r;
}

void fs_reload_start(struct fs_mount *m, bool now)
{
	struct fs_reload *l = m->reload;
	cleanup_free char *kept = NULL;
	cleanup_free char *error = NULL;

	pthread_mutex_lock(&l->turn);
	l->ready = true;
	if (m->vault.config.path && (now || l->wanted))
		(void)!reload_in_turn(m, l, &kept, &error);
	pthread_mutex_unlock(&l->turn);
}

void fs_reload_stop(struct fs_mount *m)
{
	pthread_mutex_lock(&m->reload->turn);
	m->reload->ready = false;
	pthread_mutex_unlock(&m->reload->turn);
}
