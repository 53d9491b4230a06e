#include "ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

#define STATE_NAME ".jsonlfs"
#define READ_MAX   (256UL << 20)

char *ctl_vault_read(const char *root, const char *name, int *error)
{
	cleanup_free char *path = NULL;
	cleanup_free char *text = NULL;
	cleanup_close int fd = -1;
	size_t len = 0, cap = 0;

	*error = -ENOMEM;
	if (asprintf(&path, "%s/%s/%s", root, STATE_NAME, name) < 0) {
		path = NULL;
		return NULL;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*error = -errno;
		return NULL;
	}
	for (;;) {
		char *grown;
		ssize_t n;

		if (len + 1 >= cap) {
			cap = cap ? cap * 2 : 65536;
			grown = cap > READ_MAX ? NULL : realloc(text, cap);
			if (!grown)
				return NULL;
			text = grown;
		}
		n = read(fd, text + len, cap - len - 1);
		if (n < 0 && errno != EINTR) {
			*error = -errno;
			return NULL;
		}
		if (n == 0)
			break;
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = '\0';
	*error = 0;
	return steal_ptr(&text);
}

static bool holds_state(const char *directory)
{
	cleanup_free char *path = NULL;
	struct stat st;

	if (asprintf(&path, "%s/%s", directory, STATE_NAME) < 0) {
		path = NULL;
		return false;
	}
	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The nearest directory at or above `real` that holds a state directory; if there is
 * none, `real` itself. NULL out of memory. */
static char *find_root(const char *real)
{
	cleanup_free char *up = strdup(real);

	while (up && up[0]) {
		if (holds_state(up))
			return steal_ptr(&up);
		*strrchr(up, '/') = '\0';
	}
	return up && holds_state("/") ? strdup("/") : strdup(real);
}

int ctl_vault_find(const char *path, struct ctl_vault *v)
{
	cleanup_free char *real = realpath(path, NULL);
	cleanup_free char *text = NULL;
	const char *below;

	memset(v, 0, sizeof(*v));
	if (!real)
		return -errno;
	v->root = find_root(real);
	if (!v->root)
		return -ENOMEM;
	below = real + (strcmp(v->root, "/") == 0 ? 0 : strlen(v->root));
	if (asprintf(&v->prefix, "%s%s", below + (*below == '/'),
		     below[0] && below[1] ? "/" : "") < 0)
		v->prefix = NULL;
	below += *below == '/';
	v->name = strdup(below[0] ? below : strrchr(real, '/') + 1);
	if (!v->prefix || !v->name) {
		ctl_vault_free(v);
		return -ENOMEM;
	}
	text = ctl_vault_read(v->root, "status.json", &v->status_error);
	if (text) {
		v->status = jsonl_report_parse(text);
		v->status_error = v->status ? 0 : -EBADMSG;
	}
	return 0;
}

int ctl_vault_state(const struct ctl_vault *v, const char *state)
{
	cleanup_free char *path = NULL;
	int fd;

	if (!state) {
		if (asprintf(&path, "%s/%s", v->root, STATE_NAME) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		state = path;
	}
	fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void ctl_vault_free(struct ctl_vault *v)
{
	free(v->root);
	free(v->prefix);
	free(v->name);
	jsonl_report_free(v->status);
	memset(v, 0, sizeof(*v));
}
