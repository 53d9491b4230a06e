/* SPDX-License-Identifier: MIT */
#include "vault/aside.h"

#include <errno.h>

#include "base/ident.h"
#include "vault/vault.h"

int fs_aside(struct fs_vault *v, const struct jsonl_quarantine_item *item, bool last_copy,
	     char name[JSONL_QUARANTINE_NAME])
{
	int rc = jsonl_quarantine_put(v->quarantine, item, name);

	if (!rc) {
		v->stats.quarantined++;
		return 0;
	}
	name[0] = '\0';
	v->stats.quarantine_full += rc == -ENOSPC;
	if (last_copy)
		fs_ident_lost(&v->stats, item->path, item->iov, item->niov, rc);
	return rc;
}

int fs_aside_cut(struct fs_vault *v, const char *path, int fd, const char *event,
		 int code, const struct iovec *iov, int niov, off_t at, uint64_t offset,
		 char name[JSONL_QUARANTINE_NAME])
{
	const struct jsonl_quarantine_item item = {
	    .iov = iov,
	    .niov = niov,
	    .event = event,
	    .code = code,
	    .offset = offset,
	    .at = at,
	    .path = path,
	    .source_fd = fd,
	    .reserved = true,
	    .durable = true,
	};

	return fs_aside(v, &item, false, name);
}
