/* SPDX-License-Identifier: MIT */
#include "ctl/kept/quarantine_others.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "ctl/ask/control.h"
#include "ctl/kept/quarantine_restore.h"
#include "ctl/kept/quarantine_store.h"
#include "report/report.h"

static const char *explain(const struct ctl_store *s, int rc)
{
	switch (rc) {
	case -EALREADY:
		return "was restored before: --again does it once more";
	case -EINVAL:
		return "it does not say which log it is of: its writer or root can "
		       "show it and append it";
	case -EPERM:
	case -ENOENT:
		return "cannot be read by you: its writer, root or the owner of "
		       "the vault's directory restores it";
	case -EACCES:
		return "more people can read the log by now than what was set "
		       "aside: its writer or root restores it";
	case -EFBIG:
		return "is longer than 16 MiB: its writer or root restores it";
	default:
		return rc > 0 || rc == -EBADMSG
			   ? "nothing was appended: not all of it are records: "
			     "its writer or root corrects it, and restores it "
			     "with --edited"
			   : ctl_explain(s->vault.root, rc);
	}
}

bool ctl_is_for_daemon(const struct ctl_restore *r, const struct ctl_store *s)
{
	cleanup_close int fd =
	    ctl_entries_is_name(r->name) && !r->edited && s->vault.mount
		? ctl_open_file(s->files.dir, r->name, O_RDONLY, 0)
		: -EINVAL;

	return fd == -EACCES;
}

int ctl_restore_by_daemon(const struct ctl_restore *r, const struct ctl_store *s)
{
	struct jsonl_report *request = ctl_control_request("quarantine-restore"),
			    *reply = NULL;
	cleanup_free char *shown = NULL;
	const char *path;
	uint64_t records;
	int rc;

	jsonl_report_add_string(request, "name", r->name);
	jsonl_report_add_bool(request, "again", r->again);
	rc = ctl_control_ask(&s->vault, request, NULL, 0, &reply);
	path = jsonl_report_get_string(reply, "path");
	records = jsonl_report_get_uint(reply, "records");
	if (rc)
		ctl_error("%s: %s", r->name, explain(s, rc));
	else if (path && asprintf(&shown, "%s/%s", s->vault.root, path) > 0)
		ctl_restored(shown, records, records, true);
	if (rc == 0 && !jsonl_report_get_bool(reply, "noted"))
		ctl_error(CTL_NOT_NOTED, r->name);
	jsonl_report_free(reply);
	return rc == 0 ? 0 : rc > 0 || rc == -EBADMSG ? CTL_DAMAGE : CTL_FAILURE;
}
