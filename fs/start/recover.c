/* SPDX-License-Identifier: MIT */
/* Recovers after the daemon or the machine went down: commits that were cut off, and
 * staged records that were never committed. */
#include "start/recover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/path.h"
#include "base/syslog.h"
#include "block/raw.h"
#include "block/stage.h"
#include "log/intent.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/classes.h"
#include "tree/mount.h"
#include "vault/aside.h"

/* Calls fn for each file of the daemon's directory with this prefix, until it returns
 * true. 1: it did, 0: it did not, -errno: the directory could not be read to its end. */
static int recover_each(struct fs_mount *m, const char *prefix,
			bool (*fn)(struct fs_mount *m, const char *name, void *ctx),
			void *ctx)
{
	struct dirent *e;
	int found;
	DIR *dir = fs_directory_open(m->vault.daemon_fd, &found);

	if (!dir)
		return found;
	do {
		errno = 0;
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread so far */
		e = readdir(dir);
		if (e)
			found = strncmp(e->d_name, prefix, strlen(prefix)) == 0 &&
				fn(m, e->d_name, ctx);
		else
			found = -errno;
	} while (e && !found);
	closedir(dir);
	return found;
}

/* ---- what was staged ---- */

static int staged_keep(struct fs_mount *m, const char *path, struct jsonl_stage *stage)
{
	char name[JSONL_QUARANTINE_NAME];
	struct jsonl_stage_map map;
	struct jsonl_quarantine_item item = {.iov = &map.iov,
					     .niov = 1,
					     .event = "transaction",
					     .code = JSONL_INCOMPLETE,
					     .at = -1,
					     .path = path,
					     .source_fd = -1,
					     .reserved = true,
					     .durable = true};
	int rc = jsonl_stage_map(stage, &map);

	if (!rc)
		rc = fs_aside(&m->vault, &item, false, name);
	jsonl_stage_unmap(&map);
	return rc;
}

/* Settles a stage: appends it, or keeps it elsewhere; the file stays until one of the
 * two has succeeded. */
static int stage_settle(struct fs_mount *m, const char *name, const char *path,
			struct jsonl_stage *stage)
{
	const struct jsonl_settings *settings =
	    jsonl_policy_settings(m->vault.policy, path);
	const struct fs_class_ops *ops =
	    settings ? m->tree.classes[settings->class] : NULL;
	int committed = -ECANCELED,
	    rc = ops && ops->unframed ? jsonl_stage_take_all(stage) : 0;
	uint64_t len = jsonl_stage_length(stage);

	if (rc || !len)
		return rc;
	if (ops && ops->recover)
		committed = ops->recover(m, settings, path, stage);
	if (committed)
		rc = staged_keep(m, path, stage);
	m->vault.stats.transactions += !committed;
	m->vault.stats.transactions_dropped += committed && !rc;
	FS_SYSLOG(
	    rc ? LOG_ERR : LOG_WARNING, (uid_t)-1,
	    rc		? "transaction-stays"
	    : committed ? "transaction-dropped"
			: "transaction-recovered",
	    FS_STR("path", path), FS_INT("length", len),
	    FS_STR("reason", "the mount ended before the file was closed"),
	    FS_STR("kept", rc	       ? name
			   : committed ? "quarantine"
				       : ""),
	    FS_STR("error", rc ? jsonl_error_text(rc)
			    : committed && committed != -ECANCELED
				? jsonl_error_text(committed)
				: ""),
	    FS_STR("hint",
		   rc ? "it is tried again at the next mount: make room (jsonlfsctl "
			"quarantine drop, quarantine_max), or remove the file from "
			"the state directory's daemon/"
		      : ""));
	return rc;
}

static bool recover_stage(struct fs_mount *m, const char *name, void *ctx)
{
	struct jsonl_stage *stage;
	cleanup_free char *path = NULL;
	int rc;

	/* A block whose intent could not be settled may be in the log already. */
	if (m->vault.intents_left &&
	    recover_each(m, "intent-", fs_intent_names, (void *)name))
		return false;
	rc = jsonl_stage_open(m->vault.io, m->vault.daemon_fd, name, &stage, &path);
	if (rc) {
		FS_SYSLOG(LOG_ERR, (uid_t)-1, "transaction-stays", FS_STR("kept", name),
			  FS_STR("error", jsonl_error_text(rc)));
		return false;
	}
	if (path)
		rc = stage_settle(m, name, path, stage);
	if (!rc)
		rc = jsonl_stage_discard(stage);
	jsonl_stage_free(stage);
	return false;
}

void fs_recover(struct fs_mount *m)
{
	int rc;

	if (m->vault.daemon_fd < 0 || m->vault.config.readonly)
		return;
	/* Commits that were begun come first: they may stand before what was staged
	 * later. */
	rc = recover_each(m, "intent-", fs_intent_recover, NULL);
	if (rc)
		m->vault.intents_left = true;
	if (!rc)
		rc = recover_each(m, "stage-", recover_stage, NULL);
	if (rc)
		FS_SYSLOG(LOG_ERR, (uid_t)-1, "transaction-stays",
			  FS_STR("kept", "all of the state directory's daemon/"),
			  FS_STR("error", jsonl_error_text(rc)));
}
