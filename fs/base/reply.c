/* SPDX-License-Identifier: MIT */
/* Answers READ and FSYNC requests. For a READ libfuse would allocate a buffer; of this
 * size that means fresh pages from the kernel, which cost more than reading the file. So
 * every worker thread keeps its own buffer. */
#include "base/reply.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fuse.h"
#include "base/waits.h"

struct read_buffer {
	size_t size;
	char bytes[];
};

static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;
static bool buffer_keyed;

static void buffer_init(void)
{
	buffer_keyed = pthread_key_create(&buffer_key, free) == 0;
}

/* Returns the buffer of the calling thread, which is freed when the thread ends. NULL:
 * out of memory. */
static char *buffer_get(size_t size)
{
	struct read_buffer *b;

	pthread_once(&buffer_once, buffer_init);
	if (!buffer_keyed)
		return NULL;
	b = pthread_getspecific(buffer_key);
	if (b && b->size >= size)
		return b->bytes;
	free(b);
	b = malloc(sizeof(*b) + size);
	if (b)
		b->size = size;
	if (pthread_setspecific(buffer_key, b)) {
		free(b);
		b = NULL;
	}
	return b ? b->bytes : NULL;
}

/* Reads what is there without the disk; only then, if there is more, waits for it. */
static ssize_t read_some(int fd, char *bytes, size_t size, off_t off)
{
	struct iovec iov = {.iov_base = bytes, .iov_len = size};
	ssize_t n = preadv2(fd, &iov, 1, off, RWF_NOWAIT);

	if (n >= 0 || (errno != EAGAIN && errno != EOPNOTSUPP))
		return n;
	jsonl_waits();
	return pread(fd, bytes, size, off);
}

size_t fs_bytes_there(off_t length, size_t size, off_t off)
{
	if (off >= length)
		return 0;
	return (uint64_t)(length - off) < size ? (size_t)(length - off) : size;
}

ssize_t fs_reply_fetch(int fd, size_t size, off_t off, char **bytes)
{
	size_t got = 0;
	ssize_t n;

	*bytes = buffer_get(size);
	if (!*bytes)
		return -ENOMEM;
	do {
		n = read_some(fd, *bytes + got, size - got, off + (off_t)got);
		got += n > 0 ? (size_t)n : 0;
	} while (got < size && (n > 0 || (n < 0 && errno == EINTR)));
	return n < 0 && !got ? -errno : (ssize_t)got;
}

void fs_reply_sync(fuse_req_t req, int fd, int datasync)
{
	jsonl_waits();
	fuse_reply_err(req, (datasync ? fdatasync(fd) : fsync(fd)) ? errno : 0);
}

void fs_reply_bytes(fuse_req_t req, const char *bytes, ssize_t n)
{
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, bytes, (size_t)n);
}

void fs_reply_read(fuse_req_t req, int fd, size_t size, off_t off)
{
	char *bytes;
	ssize_t n = fs_reply_fetch(fd, size, off, &bytes);

	fs_reply_bytes(req, bytes, n);
}

ssize_t fs_request_bytes(struct fuse_bufvec *in, const char **bytes, char **copy)
{
	size_t len = fuse_buf_size(in);
	struct fuse_bufvec flat = FUSE_BUFVEC_INIT(len);

	if (in->count == 1 && !(in->buf[0].flags & FUSE_BUF_IS_FD)) {
		*bytes = in->buf[0].mem;
		return (ssize_t)len;
	}
	*bytes = *copy = flat.buf[0].mem = malloc(len ? len : 1);
	return *copy ? fuse_buf_copy(&flat, in, 0) : -ENOMEM;
}
