/* What jsonlfsctl may ask for, and what is done about it. */
#include <fcntl.h>
#include <string.h>

#include "control_files.h"
#include "reload.h"
#include "report.h"

/* A name in the quarantine or in the archive. */
static bool is_name(const char *name)
{
	return name && name[0] && name[0] != '.' && !strchr(name, '/');
}

/* Every entry that was named is gone, or has been told of: {"failed": [{name, text}]}. */
static int drop_each(struct fs_control_request *r,
		     int (*drop)(struct fs_control_request *r, const char *name))
{
	const struct jsonl_report *names = jsonl_report_get(r->args, "names");
	struct jsonl_report *failed = jsonl_report_array();
	uint64_t dropped = 0;

	for (size_t i = 0; i < jsonl_report_length(names); i++) {
		const char *name =
		    jsonl_report_get_string(jsonl_report_at(names, i), NULL);
		int rc = is_name(name) ? drop(r, name) : -EINVAL;
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
	int rc = jsonl_quarantine_drop(r->m->quarantine, name);

	if (rc == 0)
		FS_LOG(LOG_NOTICE, (uid_t)-1, "quarantine-dropped",
		       FS_STR("quarantine", name), FS_INT("pid", r->pid),
		       FS_INT("uid", r->uid));
	return rc;
}

static int quarantine_drop(struct fs_control_request *r)
{
	int rc;

	if (!r->m->quarantine || r->m->config.readonly)
		return -EROFS;
	rc = drop_each(r, quarantine_drop_one);
	return rc ? rc : jsonl_quarantine_settle(r->m->quarantine);
}

/* The records of an entry were appended again, through the mount. */
static int quarantine_restored(struct fs_control_request *r)
{
	const char *name = jsonl_report_get_string(r->args, "name");
	uint64_t records = jsonl_report_get_uint(r->args, "records");
	int rc;

	if (!r->m->quarantine || r->m->config.readonly)
		return -EROFS;
	if (!is_name(name))
		return -EINVAL;
	rc = jsonl_quarantine_restored(r->m->quarantine, name, records);
	if (rc == 0)
		FS_LOG(LOG_NOTICE, (uid_t)-1, "quarantine-restored",
		       FS_STR("quarantine", name), FS_INT("records", records),
		       FS_INT("pid", r->pid), FS_INT("uid", r->uid));
	return rc;
}

/* ---- archive ---- */

static int archive_drop_one(struct fs_control_request *r, const char *name)
{
	struct fs_mount *m = r->m;
	uint64_t bytes;
	struct stat st;

	if (fstatat(m->archive_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (unlinkat(m->archive_fd, name, 0) < 0)
		return -errno;
	bytes = (uint64_t)st.st_size;
	/* What was put there by others since the mount was never counted. */
	for (uint64_t have = atomic_load(&m->archive_bytes);
	     !atomic_compare_exchange_weak(&m->archive_bytes, &have,
					   have > bytes ? have - bytes : 0);)
		continue;
	FS_LOG(LOG_NOTICE, (uid_t)-1, "archive-dropped", FS_STR("archive", name),
	       FS_INT("length", bytes), FS_INT("pid", r->pid), FS_INT("uid", r->uid));
	return 0;
}

static int archive_drop(struct fs_control_request *r)
{
	int rc;

	if (r->m->archive_fd < 0 || r->m->config.readonly)
		return -EROFS;
	rc = drop_each(r, archive_drop_one);
	if (rc == 0 && fsync(r->m->archive_fd) < 0)
		rc = -errno;
	return rc;
}

/* ---- rules ---- */

static int reload(struct fs_control_request *r)
{
	cleanup_free char *kept = NULL;
	cleanup_free char *error = NULL;
	int rc = fs_reload(r->m, &kept, &error);

	if (r->m->config.path)
		jsonl_report_add_string(r->reply, "config", r->m->config.path);
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

static const struct {
	const char *name;
	int (*run)(struct fs_control_request *r);
	bool owner; /* else it looks itself who asks */
} verbs[] = {
    {"ping", ping, false},
    {"quarantine-drop", quarantine_drop, true},
    {"quarantine-restored", quarantine_restored, true},
    {"archive-drop", archive_drop, true},
    {"reload", reload, true},
    {"replace", fs_control_replace, false},
    {"repair", fs_control_repair, false},
    {"watch", ping, true}, /* of the owner it is control.c's */
};

int fs_control_run(struct fs_control_request *r, const char *verb)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verb, verbs[i].name) != 0)
			continue;
		if (!verbs[i].owner || r->owner)
			return verbs[i].run(r);
		FS_LOG(LOG_NOTICE, r->uid, "control-denied", FS_STR("verb", verb),
		       FS_INT("pid", r->pid), FS_INT("uid", r->uid));
		return -EPERM;
	}
	return -ENOSYS;
}
