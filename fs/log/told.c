/* SPDX-License-Identifier: MIT */
#include "log/told.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/syslog.h"
#include "file/file.h"
#include "log/openlog.h"
#include "quarantine/quarantine.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/aside.h"

int fs_told_set_aside(void *ctx, const char *event, int code, const struct iovec *iov,
			 int niov, off_t at, uint64_t offset)
{
	struct fs_openlog *s = ctx;
	char path[PATH_MAX], name[JSONL_QUARANTINE_NAME];
	size_t len = jsonl_iov_length(iov, niov);
	int rc;

	fs_path_of(s->m, s->inode, path, sizeof(path));
	rc = fs_aside_cut(&s->m->vault, path, jsonl_file_fd(s->file), event, code, iov, niov,
			  at, offset, name);
	if (rc) {
		FS_SYSLOG(
		    LOG_ERR, (uid_t)-1, event, FS_STR("path", path), FS_INT("offset", at),
		    FS_INT("length", len), FS_STR("reason", jsonl_error_text(code)),
		    FS_STR("kept", "no"), FS_STR("error", jsonl_error_text(rc)),
		    FS_STR("next", "make room for the quarantine; the file takes no "
				   "record until then"));
		return rc;
	}
	FS_SYSLOG(LOG_WARNING, (uid_t)-1, event, FS_STR("path", path),
		  FS_INT("offset", at), FS_INT("length", len),
		  FS_STR("reason", jsonl_error_text(code)), FS_STR("quarantine", name));
	return 0;
}

void fs_told_report(void *ctx, const char *event, int code, off_t at, uint64_t len)
{
	struct fs_openlog *s = ctx;
	char path[PATH_MAX];

	fs_path_of(s->m, s->inode, path, sizeof(path));
	if (strcmp(event, "repaired") == 0 || strcmp(event, "newline-added") == 0) {
		s->m->vault.stats.repairs++;
		s->m->vault.stats.repaired_bytes += len;
	} else if (strcmp(event, "sync-failed") == 0) {
		s->m->vault.stats.sync_failures++;
		/* A file can fail several times before a sync succeeds again; it is
		 * counted once. */
		if (!atomic_exchange(&s->poisoned, true))
			s->m->vault.stats.poisoned_files++;
	} else if (strcmp(event, "sync-verified") == 0) {
		if (atomic_exchange(&s->poisoned, false))
			s->m->vault.stats.poisoned_files--;
	} else if (strcmp(event, "lock-lost") == 0) {
		s->m->vault.stats.lost_locks++;
	} else if (strcmp(event, "sync-lost") == 0) {
		s->m->vault.stats.lost++;
		s->m->vault.stats.lost_bytes += len;
	}
	FS_SYSLOG(code < 0 ? LOG_ERR : LOG_WARNING, (uid_t)-1, event,
		  FS_STR("path", path), FS_INT("offset", at), FS_INT("length", len),
		  FS_STR("reason", code ? jsonl_error_text(code) : "repaired"));
}
