/* SPDX-License-Identifier: MIT */
#include "names/unlink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fuse.h"
#include "names/generation.h"
#include "rules/config.h"
#include "rules/policy.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/hold.h"
#include "tree/inode.h"
#include "tree/mount.h"
#include "tree/path.h"
#include "vault/deferred.h"
#include "vault/vault.h"

static int unlink_by_class(fuse_req_t req, struct fs_mount *m, struct fs_inode *dir,
			   int dir_fd, const char *name)
{
	const struct jsonl_settings *settings;
	const struct fs_class_ops *ops;
	char path[PATH_MAX];
	int rc;

	rc = fs_inode_path(m, dir, name, path, sizeof(path));
	if (rc) /* too long: plain */
		return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
	settings = jsonl_policy_settings(m->vault.policy, path);
	if (!settings)
		return -ENOMEM;
	ops = m->tree.classes[settings->class];
	return ops->unlink ? ops->unlink(req, settings, dir_fd, name, path)
			   : fs_generation_unlink(req, dir, dir_fd, name);
}

static int unlink_request(fuse_req_t req, struct fs_inode *dir, const char *name)
{
	struct fs_mount *m = fs_mount_of(req);
	int dir_fd = fs_inode_fd_get(m, dir), rc;

	if (dir_fd < 0)
		return dir_fd;
	if (jsonl_policy_may_govern(m->vault.policy, name)) {
		/* Not while another file takes the log's place. */
		pthread_rwlock_rdlock(&m->tree.lock);
		rc = unlink_by_class(req, m, dir, dir_fd, name);
		pthread_rwlock_unlock(&m->tree.lock);
		m->tree.log_names++;
	} else if (fs_generation_may_be(m, name)) {
		rc = fs_generation_unlink(req, dir, dir_fd, name);
	} else {
		rc = unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
	}
	fs_inode_fd_put(m, dir, dir_fd);
	return rc;
}

/* Keeps a removal that may have to wait for another daemon. The kernel keeps the
 * directory until the answer. */
struct later {
	struct fs_job job; /* first: cast back */
	fuse_req_t req;
	struct fs_inode *dir;
	char name[];
};

static int later_run(struct fs_job *job, bool last)
{
	struct later *l = (struct later *)job;
	int rc = unlink_request(l->req, l->dir, l->name);

	(void)last;
	fuse_reply_err(l->req, -rc);
	free(l);
	return 0;
}

static int unlink_later(fuse_req_t req, struct fs_inode *dir, const char *name)
{
	struct later *l = malloc(sizeof(*l) + strlen(name) + 1);
	int rc;

	if (!l)
		return -ENOMEM;
	*l = (struct later){.job = {.run = later_run,
				    .uid = fuse_req_ctx(req)->uid,
				    .timeout_ms = UINT32_MAX},
			    .req = req,
			    .dir = dir};
	strcpy(l->name, name);
	rc = fs_defer(fs_vault_of(req), &l->job);
	if (rc)
		free(l);
	return rc;
}

void fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *dir = fs_inode_of(m, parent);
	int rc;

	if (fs_name_is_state(m, dir, name)) {
		fuse_reply_err(req, EPERM);
		return;
	}
	if (fs_hold_may_wait(m) && jsonl_policy_may_govern(m->vault.policy, name)) {
		rc = unlink_later(req, dir, name);
		if (!rc)
			return;
	} else {
		rc = unlink_request(req, dir, name);
	}
	fuse_reply_err(req, -rc);
}
