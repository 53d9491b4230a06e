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

/* Cuts off the `n` bytes that were appended, unless another program has appended behind
 * them. Returns false when they stay. */
static bool take_back(const struct jsonl_io *io, int fd, off_t before, ssize_t n)
{
	struct stat after;

	return io->fstat(io, fd, &after) == 0 && after.st_size == before + n &&
	       io->ftruncate(io, fd, before) == 0;
}

/* 1: the whole block is in the file, not durable yet; -errno: nothing of it, but for
 * -EIO. */
static int write_block(const struct jsonl_io *io, int fd, const struct iovec *block,
		       off_t before)
{
	ssize_t n;

	do
		n = io->append(io, fd, block, 1);
	while (n == -EINTR);
	if (n < 0)
		return (int)n;
	if ((size_t)n == block->iov_len)
		return 1;
	return take_back(io, fd, before, n) ? -ENOSPC : -EIO;
}

static int raw_append(const struct jsonl_io *io, int fd, const struct iovec *block,
		      bool durable, pthread_rwlock_t *readers, bool *stays)
{
	struct stat before;
	int rc = io->fstat(io, fd, &before);

	if (rc)
		return rc;
	pthread_rwlock_wrlock(readers);
	rc = write_block(io, fd, block, before.st_size);
	pthread_rwlock_unlock(readers);
	if (rc < 0)
		return rc;
	rc = durable ? io->fdatasync(io, fd) : 0;
	if (rc)
		*stays = !take_back(io, fd, before.st_size, (ssize_t)block->iov_len);
	return rc;
}

int jsonl_raw_append(const struct jsonl_io *io, int fd, struct jsonl_stage *s,
		     bool durable, pthread_rwlock_t *readers, bool *stays)
{
	struct jsonl_stage_map map;
	int rc = jsonl_stage_map(s, &map);

	*stays = false;
	if (!rc)
		rc = raw_append(io, fd, &map.iov, durable, readers, stays);
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
	pthread_rwlock_t nobody = PTHREAD_RWLOCK_INITIALIZER;
	struct jsonl_stage_map map;
	int rc = jsonl_stage_map(s, &map);
	bool stays;

	if (!rc)
		rc = ends_with(io, fd, &map.iov);
	if (!rc)
		rc = raw_append(io, fd, &map.iov, true, &nobody, &stays);
	else if (rc > 0) /* no program may have waited until it was durable */
		rc = io->fdatasync(io, fd);
	jsonl_stage_unmap(&map);
	return rc;
}
