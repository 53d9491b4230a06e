/* SPDX-License-Identifier: MIT */
#include "document/check.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/io.h"
#include "json/text.h"
#include "rules/limits.h"
#include "tree/mount.h"

int fs_document_check(struct fs_mount *m, const struct jsonl_limits *lim, int fd,
		      off_t *at)
{
	cleanup_free char *buf = NULL;
	struct jsonl_text text;
	struct stat st;
	ssize_t got;
	int rc;

	*at = 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size > lim->maxrecord)
		return JSONL_TOO_LONG;
	buf = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!buf)
		return -ENOMEM;
	got = jsonl_io_read_full(m->vault.io, fd, buf, (size_t)st.st_size, 0);
	if (got < 0)
		return (int)got;
	rc = jsonl_text_check(buf, (size_t)got, lim->maxdepth, &text);
	*at = (off_t)text.offset;
	return rc;
}
