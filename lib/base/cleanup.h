/* SPDX-License-Identifier: MIT */
/* Releases a variable when it goes out of scope, unless steal_fd() or steal_ptr() has
 * taken its value away. GNU C only (gcc and clang), like the rest of the tree. */
#ifndef JSONL_CLEANUP_H
#define JSONL_CLEANUP_H

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_fn(void *p)
{
	free(*(void **)p);
}

/* Leaves errno as it is: a function may return -errno after this has run. */
static inline void cleanup_close_fn(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline void cleanup_unlock_fn(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

#define cleanup_free   __attribute__((cleanup(cleanup_free_fn)))
#define cleanup_close  __attribute__((cleanup(cleanup_close_fn)))
#define cleanup_unlock __attribute__((cleanup(cleanup_unlock_fn)))

static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define steal_ptr(pp)                                                                    \
	({                                                                               \
		__typeof__(*(pp)) taken_ = *(pp);                                        \
		*(pp) = NULL;                                                            \
		taken_;                                                                  \
	})

#endif
