/* SPDX-License-Identifier: MIT */
/* A daemon that is out of memory, preloaded (LD_PRELOAD): while the file that
 * JSONLFS_NO_MEMORY names is there, malloc finds no room for small things. Test code
 * alone; nothing of it is in the daemon. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SMALL 128

void *__libc_malloc(size_t size); /* of glibc */

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	const char *file = size <= SMALL ? getenv("JSONLFS_NO_MEMORY") : NULL;

	if (!file || access(file, F_OK))
		return __libc_malloc(size);
	errno = ENOMEM;
	return NULL;
}
