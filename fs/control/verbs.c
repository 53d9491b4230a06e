/* SPDX-License-Identifier: MIT */
/* Carries out the requests of jsonlfsctl. */
#include "control/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/syslog.h"
#include "control/entries.h"
#include "control/files.h"
#include "control/reload.h"
#include "control/request.h"
#include "control/restore.h"
#include "quarantine/quarantine.h"
#include "report/report.h"
#include "tree/mount.h"
#include "vault/archive.h"

/* Drops the entries that are named. The reply lists those that failed: {"failed":
 * [{name, text}]}. */
static int drop_each(struct fs_control_request *r,
		     int (*drop)(struct fs_control_request *r, const char *name))
{
	const struct jsonl_report *names = jsonl_report_get(r->args, "names");
	struct jsonl_report *failed = jsonl_report_array();
	uint64_t dropped = 0;

	for (size_t i = 0; i < jsonl_report_length(names); i++) {
		const char *name =
		    jsonl_report_get_string(jsonl_report_at(names, i), NULL);
		int rc = fs_control_is_entry_name(name) ? drop(r, name) : -EINVAL;
		struct jsonl_report *o;

		dropped += rc == 0;
		if (rc == 0)
			continue;
		o = jsonl_report_object();
		jsonl_report_add_string(o, "name", name ? name : "");
		jsonl_report_add_string(o, "text", jsonl_error_text(rc));
		jsonl_report_add(failed, NULL, o);
	}
	jsonl_report_add_uint(r->reply, "dropped", dropped);
	jsonl_report_add(r->reply, "failed", failed);
	return 0;
}

/* ---- quarantine ---- */

static int quarantine_drop_one(struct fs_control_request *r, const char *name)
{
	int rc = jsonl_quarantine_drop(r->m->vault.quarantine, name);

	if (rc == 0)
		FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "quarantine-dropped",
			  FS_STR("quarantine", name), FS_INT("pid", r->pid),
			  FS_INT("uid", r->uid));
	return rc;
}

static int quarantine_drop(struct fs_control_request *r)
{
	int rc;

	if (!r->m->vault.quarantine || r->m->vault.config.readonly)
		return -EROFS;
	rc = drop_each(r, quarantine_drop_one);
	return rc ? rc : jsonl_quarantine_settle(r->m->vault.quarantine);
}

/* Returns true when the entry is of a file of the client's, who can then read and
 * restore it. */
static bool is_his(const struct fs_control_request *r, const char *name)
{
	char path[sizeof("quarantine/") + NAME_MAX];
	struct stat st;

	(void)snprintf(path, sizeof(path), "quarantine/%s", name);
	return r->vault_owner ||
	       (fstatat(r->m->vault.state_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		st.st_uid == r->uid);
}

/* Notes that the records of an entry were appended again, through the mount. */
static int quarantine_restored(struct fs_control_request *r)
{
	const char *name = jsonl_report_get_string(r->args, "name");
	uint64_t records = jsonl_report_get_uint(r->args, "records");
	int rc;

	if (!r->m->vault.quarantine || r->m->vault.config.readonly)
		return -EROFS;
	if (!fs_control_is_entry_name(name))
		return -EINVAL;
	if (!is_his(r, name))
		return -EPERM;
	rc = jsonl_quarantine_restored(r->m->vault.quarantine, name, records);
	if (rc == 0)
		FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "quarantine-restored",
			  FS_STR("quarantine", name), FS_INT("records", records),
			  FS_INT("pid", r->pid), FS_INT("uid", r->uid));
	return rc;
}

/* ---- archive ---- */

static int archive_drop_one(struct fs_control_request *r, const char *name)
{
	uint64_t bytes;
	int rc = fs_archive_drop(&r->m->vault, name, &bytes);

	if (rc)
		return rc;
	FS_SYSLOG(LOG_NOTICE, (uid_t)-1, "archive-dropped", FS_STR("archive", name),
		  FS_INT("length", bytes), FS_INT("pid", r->pid), FS_INT("uid", r->uid));
	return 0;
}

static int archive_drop(struct fs_control_request *r)
{
	int rc;

	if (r->m->vault.archive_fd < 0 || r->m->vault.config.readonly)
		return -EROFS;
	rc = drop_each(r, archive_drop_one);
	if (rc == 0 && fsync(r->m->vault.archive_fd) < 0)
		rc = -errno;
	return rc;
}

/* ---- rules ---- */

static int reload(struct fs_control_request *r)
{
	cleanup_free char *kept = NULL;
	cleanup_free char *error = NULL;
	int rc = fs_reload(r->m, &kept, &error);

	if (r->m->vault.config.path)
		jsonl_report_add_string(r->reply, "config", r->m->vault.config.path);
	if (kept)
		jsonl_report_add_string(r->reply, "kept", kept);
	if (error)
		jsonl_report_add_string(r->reply, "reason", error);
	return rc == -EOPNOTSUPP ? -ENODATA : rc;
}

/* ---- the table ---- */

static int ping(struct fs_control_request *r)
{
	jsonl_report_add_string(r->reply, "version", JSONLFS_VERSION);
	jsonl_report_add_int(r->reply, "pid", getpid());
	return 0;
}

enum who {
	ANYBODY, /* it checks the client itself */
	VAULT_OWNER,
	OWNER
};

static const struct {
	const char *name;
	int (*run)(struct fs_control_request *r);
	enum who who;
} verbs[] = {
    {"ping", ping, ANYBODY},
    {"quarantine-drop", quarantine_drop, VAULT_OWNER},
    {"quarantine-restored", quarantine_restored, ANYBODY},
    {"quarantine-restore", fs_control_quarantine_restore, VAULT_OWNER},
    {"archive-drop", archive_drop, VAULT_OWNER},
    {"archive-restore", fs_control_archive_restore, VAULT_OWNER},
    {"entries", fs_control_entries, ANYBODY},
    {"reload", reload, OWNER},
    {"replace", fs_control_replace, ANYBODY},
    {"repair", fs_control_repair, ANYBODY},
};

int fs_control_run(struct fs_control_request *r, const char *verb)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verb, verbs[i].name) != 0)
			continue;
		if (verbs[i].who == ANYBODY ||
		    (verbs[i].who == VAULT_OWNER && r->vault_owner) || r->owner)
			return verbs[i].run(r);
		FS_SYSLOG(LOG_NOTICE, r->uid, "control-denied", FS_STR("verb", verb),
			  FS_INT("pid", r->pid), FS_INT("uid", r->uid));
		return -EPERM;
	}
	return -ENOSYS;
}
