/* SPDX-License-Identifier: MIT */
#include "base/repaired.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "quarantine/quarantine.h"
#include "tools/repair.h"

int fs_repaired_set_aside(struct jsonl_quarantine *q, const struct fs_repaired *from,
			  const struct jsonl_repair_change *c, const void *data)
{
	const struct iovec iov = {.iov_base = (void *)data, .iov_len = c->length};
	const struct jsonl_quarantine_item item = {
	    .iov = &iov,
	    .niov = 1,
	    .event = "repair",
	    .code = c->verdict,
	    .offset = c->wrong,
	    .at = (int64_t)c->offset,
	    .path = from->path,
	    .program = "jsonlfsctl repair",
	    .pid = from->pid,
	    .uid = from->uid,
	    .source_fd = from->fd,
	    .reserved = true,
	};

	return jsonl_quarantine_put(q, &item, NULL);
}
