/* Answers to READ. libfuse would allocate a buffer for each, and for one of this size
 * that means fresh pages from the kernel, which cost more than reading the file: here
 * every worker thread keeps its own. */
#include "fs.h"

#include <stdlib.h>
#include <unistd.h>

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

/* Of the calling thread, freed when it ends. NULL out of memory. */
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

void fs_reply_read(fuse_req_t req, int fd, size_t size, off_t off)
{
	char *buf = buffer_get(size);
	ssize_t n;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	do
		n = pread(fd, buf, size, off);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}
