/* SPDX-License-Identifier: MIT */
#include "block/raw.h"

#include <errno.h>
#include <sys/mman.h>

int jsonl_stage_map(struct jsonl_stage *s, struct jsonl_stage_map *map)
{
	const char *bytes;
	off_t at;
	int fd = jsonl_stage_place(s, &at, &bytes);

	*map = (struct jsonl_stage_map){
	    .iov = {.iov_base = (void *)bytes, .iov_len = jsonl_stage_length(s)}};
	if (fd < 0)
		return 0;
	map->len = (size_t)at + map->iov.iov_len;
	map->at = mmap(NULL, map->len, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map->at == MAP_FAILED) {
		map->at = NULL;
		return -errno;
	}
	map->iov.iov_base = (char *)map->at + at;
	return 0;
}

void jsonl_stage_unmap(struct jsonl_stage_map *map)
{
	if (map->at)
		munmap(map->at, map->len);
}

static int raw_append(const struct jsonl_io *io, int fd, const struct iovec *block,
		      bool durable, bool *stays)
{
	struct stat before, after;
	ssize_t n;
	int rc = io->fstat(io, fd, &before);

	if (rc)
		return rc;
	do
		n = io->append(io, fd, block, 1);
	while (n == -EINTR);
	if (n < 0)
		return (int)n;
	if ((size_t)n < block->iov_len)
		rc = -ENOSPC;
	else if (durable)
		rc = io->fdatasync(io, fd);
	if (!rc)
		return 0;
	/* Nothing is cut off if another program has appended behind it. */
	if (io->fstat(io, fd, &after) || after.st_size != before.st_size + n ||
	    io->ftruncate(io, fd, before.st_size)) {
		*stays = (size_t)n == block->iov_len;
		rc = *stays ? rc : -EIO;
	}
	return rc;
}

int jsonl_raw_append(const struct jsonl_io *io, int fd, struct jsonl_stage *s,
		     bool durable, bool *stays)
{
	struct jsonl_stage_map map;
	int rc = jsonl_stage_map(s, &map);

	*stays = false;
	if (!rc)
		rc = raw_append(io, fd, &map.iov, durable, stays);
	jsonl_stage_unmap(&map);
	return rc;
}

/* Returns 1 when the file ends with the block, 0 when not, -errno. */
static int ends_with(const struct jsonl_io *io, int fd, const struct iovec *block)
{
	struct stat st;
	int rc = io->fstat(io, fd, &st);

	if (rc || st.st_size < (off_t)block->iov_len)
		return rc;
	return jsonl_io_equals(io, fd, block->iov_base, block->iov_len,
			       st.st_size - (off_t)block->iov_len);
}

int jsonl_raw_recover(const struct jsonl_io *io, int fd, struct jsonl_stage *s)
{
	struct jsonl_stage_map map;
	int rc = jsonl_stage_map(s, &map);
	bool stays;

	if (!rc)
		rc = ends_with(io, fd, &map.iov);
	if (!rc)
		rc = raw_append(io, fd, &map.iov, true, &stays);
	else if (rc > 0) /* no program may have waited until it was durable */
		rc = io->fdatasync(io, fd);
	jsonl_stage_unmap(&map);
	return rc;
}
