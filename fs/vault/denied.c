/* SPDX-License-Identifier: MIT */
#include "vault/denied.h"

#include "base/fuse.h"
#include "base/syslog.h"
#include "vault/named.h"
#include "vault/vault.h"

void fs_denied(fuse_req_t req, const char *operation, const char *path, const char *why)
{
	struct fs_vault *v = fs_vault_of(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	v->stats.denied++;
	FS_NAMED_LOG(v, LOG_NOTICE, ctx, "denied",
		     FS_STR("operation", operation), FS_STR("path", path),
		     FS_STR("reason", why), FS_INT("pid", ctx->pid),
		     FS_INT("uid", ctx->uid), FS_STR("program", fs_named_here));
}
