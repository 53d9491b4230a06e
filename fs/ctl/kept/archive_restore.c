/* SPDX-License-Identifier: MIT */
/* jsonlfsctl archive restore. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/archived.h"
#include "base/cleanup.h"
#include "base/copy.h"
#include "ctl/ask/control.h"
#include "ctl/ctl.h"
#include "ctl/find/vault.h"
#include "ctl/kept/archive.h"
#include "ctl/kept/selection.h"
#include "file/replace.h"
#include "tools/check.h"

#define CTL_MAXDEPTH  128
#define CTL_MAXRECORD (16U << 20)

/* Checks that all lines are records. 0, a verdict if not, or -errno. */
static int judge(int fd)
{
	const struct jsonl_limits limits = {
	    .maxdepth = CTL_MAXDEPTH, .maxrecord = CTL_MAXRECORD, .pipebuf = UINT64_MAX};
	struct jsonl_check_counts counts = {0};
	const struct jsonl_check check = {0};
	int rc = jsonl_check_fd(&jsonl_io_system, fd, &limits, &check, &counts);

	return rc ? rc : jsonl_check_damage(&counts) ? JSONL_UNKNOWN_TAIL : 0;
}

/* Copies the file beside its place and renames the copy, so that all of it appears or
 * nothing. In a mount the daemon judges it once more at the rename. */
static int put(int fd, int dir, const char *name)
{
	struct jsonl_replace to;
	struct stat st;
	int rc;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	rc = jsonl_replace_begin(&to, &jsonl_io_system, dir, name, fd);
	if (rc < 0)
		return rc;
	rc = fstat(fd, &st) < 0
		 ? -errno
		 : fs_copy_bytes(&jsonl_io_system, fd, 0, st.st_size, to.fd);
	if (rc == 0)
		return jsonl_replace_commit(&to, RENAME_NOREPLACE);
	jsonl_replace_abort(&to);
	return rc;
}

/* Copies the file to the place in the vault that the entry's name gives. Follows no link:
 * users may have made some of the directories on the way. */
static int put_back(int fd, const struct ctl_vault *v, const char *path)
{
	const char *name;
	cleanup_close int dir = ctl_open_parent(v->root_fd, path, &name);

	return dir < 0 ? dir : put(fd, dir, name);
}

static int put_as(int fd, const char *path)
{
	struct ctl_vault v;
	int rc = ctl_vault_place(path, &v);

	if (rc < 0)
		return rc;
	cleanup_close int dir = ctl_vault_open_directory(&v);

	if (dir < 0)
		rc = dir;
	else
		rc = ctl_vault_is_directory(&v) ? -EEXIST : put(fd, dir, v.spot.name);
	ctl_vault_free(&v);
	return rc;
}

static const char *explain(const char *target, int rc)
{
	switch (rc) {
	case -EEXIST:
		return "there is a file of this name: restore to another with --as=PATH, "
		       "or append the records: jsonlfsctl append";
	case -ENOENT:
		return "no such directory: make it, or restore to another with --as=PATH";
	case -ELOOP:
	case -ENOTDIR:
		return "a directory on the way is a symbolic link, or none: restore to "
		       "another place with --as=PATH";
	case JSONL_UNKNOWN_TAIL:
	case -EBADMSG:
		return "not every line of it is a record: copy it out of the archive, "
		       "repair it with jsonlfsctl repair, and append it";
	case -EACCES:
	case -EPERM:
		return "permission denied: restore as root, or as the owner of the file "
		       "and of its directory";
	default:
		return ctl_explain(target, rc);
	}
}

/* Asks the daemon to put the file back: those who keep the vault may restore files that
 * they cannot read. 0, a verdict or -errno; -EACCES: the caller is not one of them, or
 * there is no daemon. */
static int put_by_daemon(const struct ctl_vault *v, const char *name)
{
	struct jsonl_report *request = ctl_control_request("archive-restore");
	int rc;

	jsonl_report_add_string(request, "name", name);
	rc = ctl_control_ask(v, request, NULL, 0, NULL);
	return rc == -ENOENT || rc == -EPERM ? -EACCES : rc;
}

static int restore_entry(const struct archive_request *r, const struct ctl_vault *v,
			 int dir)
{
	const char *name = r->rest[1];
	cleanup_free char *target = NULL;
	struct jsonl_archived said;
	cleanup_close int fd =
	    ctl_entries_is_name(name) ? ctl_open_file(dir, name, O_RDONLY, 0) : -EINVAL;
	bool others = fd == -EACCES && v->mount && !r->as;
	int rc;

	if (fd < 0 && !others) {
		ctl_error("%s: cannot be read%s: jsonlfsctl archive list tells the names",
			  name,
			  fd == -EACCES ? " by you, so that it can only go back where it "
					  "was, without --as" : "");
		return CTL_FAILURE;
	}
	jsonl_archived_parse(name, &said);
	if (!r->as && (!said.path[0] || !said.whole)) {
		ctl_error("%s: the name does not say for sure where it was: restore it "
			  "with --as=PATH",
			  name);
		return CTL_FAILURE;
	}
	if ((r->as ? asprintf(&target, "%s", r->as)
		   : asprintf(&target, "%s/%s", v->root, said.path)) < 0) {
		target = NULL;
		return CTL_FAILURE;
	}
	rc = others ? put_by_daemon(v, name) : judge(fd);
	if (rc == 0 && !others)
		rc = r->as ? put_as(fd, r->as) : put_back(fd, v, said.path);
	if (rc) {
		ctl_error("%s: %s", target, explain(target, rc));
		return rc > 0 || rc == -EBADMSG ? CTL_DAMAGE : CTL_FAILURE;
	}
	(void)ctl_print_name(stdout, target);
	puts("\nthe entry is kept: jsonlfsctl archive drop removes it");
	return 0;
}

int archive_restore(const struct archive_request *r, const struct ctl_vault *v)
{
	struct ctl_entries e;
	int rc = archive_open(r, v, &e);
	int code = rc < 0 ? ctl_entries_unreadable("archive", r->rest[0], rc)
			  : restore_entry(r, v, e.dir);

	ctl_entries_close(&e);
	return code;
}
