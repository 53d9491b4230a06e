#include "reload.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define RELOAD_TOLD 20 /* open files that are told of in the log */

struct fs_reload {
	pthread_mutex_t turn; /* one at a time; taken before any other lock; under it: */
	bool ready, wanted;
	pthread_mutex_t lock; /* a leaf, not held while the file is read; under it: */
	bool fresh;	      /* `config` is what holds, else m->config */
	struct jsonl_config config;
	/* Where the file lies, if the mount hides it. */
	int dir; /* O_PATH; -1: m->config.path leads to it */
	char *name;
};

/* ---- where it is ---- */

/* A file below the mount point would be read through the mount, by who ends with it. */
static int open_hidden(struct fs_mount *m, struct fs_reload *l)
{
	cleanup_free char *real = realpath(m->config.path, NULL);
	size_t n = strcmp(m->mountpoint, "/") == 0 ? 0 : strlen(m->mountpoint);
	char *slash = real ? strrchr(real, '/') : NULL;

	if (!slash || strncmp(real, m->mountpoint, n) != 0 || real[n] != '/')
		return 0;
	l->name = strdup(slash + 1);
	if (!l->name)
		return -ENOMEM;
	slash[slash == real] = '\0';
	l->dir = open(real, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return l->dir < 0 ? -errno : 0;
}

/* What is compared anew each time, and so may change at any moment. What was kept by a
 * larger one stays. */
static void take_bounds(struct fs_mount *m, const struct jsonl_config *config)
{
	atomic_store(&m->pending_max, config->pending_max);
	atomic_store(&m->archive_max, config->archive_max);
	if (m->quarantine) /* none on a read-only vault that never had one */
		jsonl_quarantine_bound(m->quarantine, config->quarantine_max);
}

int fs_reload_init(struct fs_mount *m)
{
	struct fs_reload *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->dir = -1;
	pthread_mutex_init(&l->turn, NULL);
	pthread_mutex_init(&l->lock, NULL);
	m->reload = l;
	take_bounds(m, &m->config);
	return m->config.path ? open_hidden(m, l) : 0;
}

void fs_reload_deinit(struct fs_mount *m)
{
	struct fs_reload *l = m->reload;

	if (!l)
		return;
	if (l->dir >= 0)
		close(l->dir);
	if (l->fresh)
		jsonl_config_deinit(&l->config);
	free(l->name);
	pthread_mutex_destroy(&l->lock);
	pthread_mutex_destroy(&l->turn);
	free(l);
	m->reload = NULL;
}

/* ---- who goes on as before ---- */

/* The path of what a descriptor of ours is open on. */
static bool descriptor_path(int fd, char path[PATH_MAX])
{
	char link[32];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, PATH_MAX - 1);
	path[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* The same from the vault's root, whose own path is `root`. */
static bool path_of_descriptor(const char *root, int fd, char path[PATH_MAX])
{
	char target[PATH_MAX];
	size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (!descriptor_path(fd, target) || strncmp(target, root, len) != 0 ||
	    target[len] != '/')
		return false;
	(void)snprintf(path, PATH_MAX, "%s", target + len + 1);
	return true;
}

/* Plain handles that write to what is not plain any more go round the rules. */
static void tell_of_writers(struct fs_mount *m)
{
	char root[PATH_MAX], path[PATH_MAX];
	unsigned told = 0;

	if (!descriptor_path(m->root_fd, root))
		return;
	pthread_mutex_lock(&m->handles_lock);
	for (struct fs_handle *h = m->handles; h && told < RELOAD_TOLD; h = h->next) {
		const struct fs_inode *i = h->inode;

		/* Under handles_lock the descriptor of a handle that is listed is open.
		 */
		if (i->class != JSONL_CLASS_PLAIN || i->type != S_IFREG || i->state ||
		    (h->flags & O_ACCMODE) == O_RDONLY || !h->ops->fd ||
		    !path_of_descriptor(root, h->ops->fd(h), path) ||
		    jsonl_policy_classify(m->policy, path) == JSONL_CLASS_PLAIN)
			continue;
		told++;
		FS_LOG(LOG_WARNING, (uid_t)-1, "bypass", FS_STR("path", path),
		       FS_STR("reason",
			      "opened before the reload that made its writes be "
			      "checked: they are not"),
		       FS_STR("next", "have its program open it again: fuser -v PATH "
				      "names the program"));
	}
	pthread_mutex_unlock(&m->handles_lock);
}

/* ---- doing it ---- */

static int reload_config(struct fs_mount *m, struct fs_reload *l, char **kept,
			 char **error)
{
	char hidden[64 + NAME_MAX];
	const char *path = m->config.path;
	struct jsonl_config new;
	int r;

	if (l->dir >= 0) {
		(void)snprintf(hidden, sizeof(hidden), "/proc/self/fd/%d/%s", l->dir,
			       l->name);
		path = hidden;
	}
	r = jsonl_config_reload(&m->config, path, &new, kept, error);
	if (r)
		return r;
	r = jsonl_policy_reload(m->policy, &new, error);
	if (r) {
		jsonl_config_deinit(&new);
		return r;
	}
	take_bounds(m, &new);
	pthread_mutex_lock(&l->lock);
	if (l->fresh)
		jsonl_config_deinit(&l->config);
	l->config = new;
	l->fresh = true;
	pthread_mutex_unlock(&l->lock);
	/* What is kept open of files that nobody uses was opened by the old ones. */
	fs_idle_drop(m, NULL);
	return 0;
}

static int reload_in_turn(struct fs_mount *m, struct fs_reload *l, char **kept,
			  char **error)
{
	int r = reload_config(m, l, kept, error);

	if (r) {
		FS_LOG(LOG_ERR, (uid_t)-1, "reload-failed",
		       FS_STR("config", m->config.path),
		       FS_STR("reason", *error ? *error : jsonl_error_text(r)),
		       FS_STR("next",
			      "the rules from before hold: mend the file (jsonlfsctl "
			      "config check FILE), then reload again"));
		return r;
	}
	FS_LOG(LOG_NOTICE, (uid_t)-1, "reloaded", FS_STR("config", m->config.path),
	       FS_INT("rules", l->config.nrules));
	if (*kept)
		FS_LOG(LOG_WARNING, (uid_t)-1, "reload-incomplete",
		       FS_STR("config", m->config.path), FS_STR("options", *kept),
		       FS_STR("reason",
			      "these belong to the whole mount and stay as they "
			      "were"),
		       FS_STR("next", "unmount and mount again for them"));
	tell_of_writers(m);
	return 0;
}

int fs_reload(struct fs_mount *m, char **kept, char **error)
{
	struct fs_reload *l = m->reload;
	int r = -EOPNOTSUPP;

	*kept = *error = NULL;
	if (!m->config.path)
		return r;
	pthread_mutex_lock(&l->turn);
	l->wanted = !l->ready;
	r = l->ready ? reload_in_turn(m, l, kept, error) : -EBUSY;
	pthread_mutex_unlock(&l->turn);
	return r;
}

void fs_reload_start(struct fs_mount *m, bool now)
{
	struct fs_reload *l = m->reload;
	cleanup_free char *kept = NULL;
	cleanup_free char *error = NULL;

	pthread_mutex_lock(&l->turn);
	l->ready = true;
	if (m->config.path && (now || l->wanted))
		(void)!reload_in_turn(m, l, &kept, &error);
	pthread_mutex_unlock(&l->turn);
}

void fs_reload_stop(struct fs_mount *m)
{
	pthread_mutex_lock(&m->reload->turn);
	m->reload->ready = false;
	pthread_mutex_unlock(&m->reload->turn);
}

const struct jsonl_config *fs_reload_config(struct fs_mount *m)
{
	pthread_mutex_lock(&m->reload->lock);
	return m->reload->fresh ? &m->reload->config : &m->config;
}

void fs_reload_config_put(struct fs_mount *m)
{
	pthread_mutex_unlock(&m->reload->lock);
}

/* ---- nodes ---- */

/* The path of a node's file; false when it cannot be told, or is one of several. */
static bool backing_path(struct fs_mount *m, struct fs_inode *i, char path[PATH_MAX])
{
	char root[PATH_MAX];
	struct stat st;
	int fd = fs_inode_fd_get(m, i);
	bool known;

	if (fd < 0)
		return false;
	known = fstat(fd, &st) == 0 && st.st_nlink == 1 &&
		descriptor_path(m->root_fd, root) && path_of_descriptor(root, fd, path);
	fs_inode_fd_put(m, i, fd);
	return known;
}

int fs_reload_check(struct fs_mount *m, struct fs_inode *i)
{
	unsigned serial = jsonl_policy_serial(m->policy);
	char path[PATH_MAX];

	if (i->serial == serial || i->type != S_IFREG || i->state)
		return 0;
	if (backing_path(m, i, path)) {
		if (jsonl_policy_classify(m->policy, path) != i->class)
			return -ESTALE;
	} else if (atomic_exchange(&i->asked, serial) != serial) {
		/* The kernel looks the name up, which tells by which one is meant. When
		 * it comes back without, there is none on the way (/proc/self/fd). */
		return -ESTALE;
	}
	i->serial = serial;
	return 0;
}
