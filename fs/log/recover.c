/* SPDX-License-Identifier: MIT */
#include "log/recover.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "block/commit.h"
#include "block/stage.h"
#include "file/file.h"
#include "log/intent.h"
#include "log/target.h"
#include "rules/config.h"
#include "tree/mount.h"

/* Commits as the handle would have done at its close, under the log's own intent, so that
 * a crash in the middle is one of those that recovery knows. */
static int staged_commit(struct fs_mount *m, const char *path, struct jsonl_stage *stage)
{
	struct jsonl_intent intent = {.fd = -1};
	struct jsonl_transaction c = {
	    .io = m->vault.io, .intent = &intent, .path = path, .durable = true};
	enum jsonl_recovered what;
	char name[64];
	struct stat st;
	struct fs_target t;
	int rc = fs_target_open(m, path, 0, &t);

	if (rc)
		return rc;
	rc = fstat(jsonl_file_fd(t.file), &st) < 0 ? -errno : 0;
	if (!rc) {
		fs_intent_name(st.st_dev, st.st_ino, name);
		rc = intent.fd = fs_intent_open(m, name);
	}
	if (rc >= 0) {
		/* The intent may hold another block, of which a part is in the log. */
		rc = m->vault.intents_left
			 ? jsonl_commit_recover(m->vault.io, m->vault.daemon_fd,
						intent.fd, t.file, &what)
			 : 0;
		if (!rc)
			rc = jsonl_commit_run(&c, t.file, stage, NULL);
		close(intent.fd);
		/* After a failure the stage stays for the next mount, and so does the
		 * intent that says its block is in the log. */
		if (intent.marked || intent.filled)
			m->vault.intents_left = true;
		else if (!rc)
			unlinkat(m->vault.daemon_fd, name, 0);
	}
	jsonl_file_free(t.file);
	return rc > 0 ? -jsonl_error_errno(rc) : rc;
}

int fs_log_recover(struct fs_mount *m, const struct jsonl_settings *settings,
		   const char *path, struct jsonl_stage *stage)
{
	return settings->killed == JSONL_KILLED_COMMIT ? staged_commit(m, path, stage)
						       : -ECANCELED;
}
