#include "names.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add(struct ctl_names *n, const char *name)
{
	if (n->count == n->cap) {
		size_t cap = n->cap ? n->cap * 2 : 64;
		void *grown = realloc(n->list, cap * sizeof(*n->list));

		if (!grown)
			return -ENOMEM;
		n->list = grown;
		n->cap = cap;
	}
	n->list[n->count] = strdup(name);
	return n->list[n->count] ? (n->count++, 0) : -ENOMEM;
}

int ctl_names_read(struct ctl_names *n, int dir,
		   int (*wanted)(void *ctx, const char *name, unsigned char type),
		   void *ctx)
{
	int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	int rc = 0;

	if (!d) {
		rc = -errno;
		if (copy >= 0)
			close(copy);
		return rc;
	}
	do {
		errno = 0;
		/* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
		e = readdir(d);
		if (!e)
			rc = -errno;
		else if (wanted(ctx, e->d_name, e->d_type))
			rc = add(n, e->d_name);
	} while (e && rc == 0);
	closedir(d);
	if (n->count)
		qsort(n->list, n->count, sizeof(*n->list), order);
	return rc;
}

void ctl_names_free(struct ctl_names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
	*n = (struct ctl_names){0};
}
