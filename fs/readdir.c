/* Open directories. Positions are those of the backing file system, so they stay good
 * while names come and go, and seekdir leads where telldir was. */
#include "inode.h"
#include "ops.h"

#include "hash.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#define DIR_BUFFER (32U << 10)
/* Positions of the virtual files, which no file system hands out (ext4 ends with
 * INT64_MAX). */
#define DIR_VIRTUAL	(INT64_MAX - 16)
#define DIR_VIRTUAL_MAX (DIR_VIRTUAL + 2)

struct fs_dir {
	int fd;
	pthread_mutex_t lock;
	/* Under lock: what getdents64 returned last, and how much of it was used. */
	size_t at, filled;
	off_t position; /* of the entry at buf[at] */
	char *buf;
};

static const char *const virtual_names[] = {"status.json", "writers.json"};

/* What the kernel's cache of a directory's names belongs to; under inode->lock. */
struct fs_listing {
	unsigned readers; /* open handles */
	bool stamped;	  /* the names are those of these times, or newer: */
	struct timespec mtime, ctime;
	int64_t filled;	  /* fs_now_ms when all attributes were last asked for, */
	uint32_t opens;	  /* the counter of opens then, */
	uint32_t entries; /* and how many came with the answer */
};

static struct fs_dir *dir_of(const struct fuse_file_info *fi)
{
	return (struct fs_dir *)(uintptr_t)fi->fh;
}

int fs_dir_fd(const struct fuse_file_info *fi)
{
	return dir_of(fi)->fd;
}

static void dir_free(struct fs_dir *d)
{
	if (d->fd >= 0)
		close(d->fd);
	free(d->buf);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

void fs_listing_free(struct fs_listing *l)
{
	free(l);
}

static double names_timeout(const struct fs_mount *m)
{
	const struct jsonl_config *c = &m->config;

	return c->attr_timeout < c->entry_timeout ? c->attr_timeout : c->entry_timeout;
}

/* Is the directory as it was when it was stamped? If not, it is stamped anew, which is
 * only good while nobody is about to hand names from before to the kernel. */
static bool names_are_good(struct fs_listing *l, const struct stat *st)
{
	if (l->stamped && fs_same_time(l->mtime, st->st_mtim) &&
	    fs_same_time(l->ctime, st->st_ctim))
		return true;
	l->stamped = !l->readers && fs_stamp_is_old(st);
	l->mtime = st->st_mtim;
	l->ctime = st->st_ctim;
	return false;
}

/* Which counter is that of the directory. */
static uint16_t listing_number(const struct fs_inode *dir)
{
	uint64_t ino = dir->ino;

	return 1 + jsonl_hash(JSONL_HASH_START, &ino, sizeof(ino)) % (FS_LISTINGS_MAX - 1);
}

void fs_listing_opened(struct fs_mount *m, struct fs_inode *i)
{
	uint16_t number = i->priv->listed;

	if (number)
		m->table->opens[number]++;
}

/* Have the files of the directory been opened since their attributes were asked for, so
 * many that it is cheaper to ask for all of them than for one by one? */
static bool attributes_are_good(const struct fs_mount *m, const struct fs_inode *dir,
				const struct fs_listing *l)
{
	return m->table->opens[listing_number(dir)] - l->opens <= l->entries / 4;
}

/* Counts a reader in, and lets the kernel keep names while the directory does not change,
 * as the pages of a file (see fs_stamp_is_old). It also has to be worth it: names without
 * attributes make a LOOKUP of each, where reading the directory again brings the
 * attributes of hundreds at once. So the names go before the attributes expire. */
static int join_readers(const struct fs_mount *m, struct fs_inode *dir, int fd,
			struct fuse_file_info *fi)
{
	const double timeout = dir->state ? 0 : names_timeout(m);
	struct fs_listing *l;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	pthread_mutex_lock(&dir->lock);
	l = dir->priv->listing;
	if (!l)
		l = dir->priv->listing = calloc(1, sizeof(*l));
	if (l) {
		fi->keep_cache =
		    names_are_good(l, &st) && attributes_are_good(m, dir, l) &&
		    (double)(fs_now_ms() - l->filled) < timeout * 1000 * 3 / 4;
		fi->cache_readdir = l->stamped && timeout > 0;
		l->readers++;
	}
	pthread_mutex_unlock(&dir->lock);
	return l ? 0 : -ENOMEM;
}

static void leave_readers(struct fs_inode *dir)
{
	pthread_mutex_lock(&dir->lock);
	dir->priv->listing->readers--;
	pthread_mutex_unlock(&dir->lock);
}

/* A listing with attributes begins. */
static void names_filled(struct fs_mount *m, struct fs_inode *dir)
{
	struct fs_listing *l = dir->priv->listing;

	pthread_mutex_lock(&dir->lock);
	l->filled = fs_now_ms();
	l->opens = m->table->opens[listing_number(dir)];
	l->entries = 0;
	pthread_mutex_unlock(&dir->lock);
}

static void entries_filled(struct fs_inode *dir, uint32_t entries)
{
	pthread_mutex_lock(&dir->lock);
	dir->priv->listing->entries += entries;
	pthread_mutex_unlock(&dir->lock);
}

void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_inode *i = fs_inode_of(m, ino);
	struct fs_dir *d = calloc(1, sizeof(*d));
	int r = d ? 0 : -ENOMEM;

	if (d) {
		pthread_mutex_init(&d->lock, NULL);
		d->fd = r = fs_inode_open(m, i, O_RDONLY | O_DIRECTORY);
	}
	if (r >= 0)
		r = join_readers(m, i, d->fd, fi);
	if (r < 0) {
		if (d)
			dir_free(d);
		fuse_reply_err(req, -r);
		return;
	}
	fi->fh = (uintptr_t)d;
	if (fuse_reply_open(req, fi)) {
		leave_readers(i);
		dir_free(d);
	}
}

void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	leave_readers(fs_inode_of(fs_mount_of(req), ino));
	dir_free(dir_of(fi));
	fuse_reply_err(req, 0);
}

void fs_op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		    struct fuse_file_info *fi)
{
	(void)ino;
	fuse_reply_err(req, (datasync ? fdatasync(dir_of(fi)->fd) : fsync(dir_of(fi)->fd))
				? errno
				: 0);
}

/* ---- the stream ---- */

struct entry {
	const char *name;
	ino_t ino;
	mode_t type;
	off_t next; /* position behind it */
};

static bool is_virtual(off_t position)
{
	return position >= DIR_VIRTUAL && position <= DIR_VIRTUAL_MAX;
}

/* The position is often one in the middle of what was read last: the kernel had no room
 * for the rest. */
static int dir_seek(struct fs_dir *d, off_t off)
{
	size_t at = 0;

	if (off == d->position && d->buf)
		return 0;
	while (off && at < d->filled) {
		const struct dirent64 *e = (const void *)(d->buf + at);

		at += e->d_reclen;
		if (e->d_off == off) {
			d->at = at;
			d->position = off;
			return 0;
		}
	}
	d->at = d->filled = 0;
	d->position = off;
	if (is_virtual(off))
		return 0;
	return lseek(d->fd, off, SEEK_SET) < 0 ? -errno : 0;
}

/* 1: filled in *e, which does not move the stream; 0: the end. */
static int dir_peek(struct fs_dir *d, bool state, struct entry *e)
{
	const struct dirent64 *raw;
	size_t k;

	if (!is_virtual(d->position) && d->at == d->filled) {
		ssize_t n = getdents64(d->fd, d->buf, DIR_BUFFER);

		if (n < 0)
			return -errno;
		d->at = 0;
		d->filled = (size_t)n;
		if (n == 0 && state)
			d->position = DIR_VIRTUAL;
		else if (n == 0)
			return 0;
	}
	if (!is_virtual(d->position)) {
		raw = (const void *)(d->buf + d->at);
		*e = (struct entry){raw->d_name, raw->d_ino, DTTOIF(raw->d_type),
				    raw->d_off};
		return 1;
	}
	k = (size_t)(d->position - DIR_VIRTUAL);
	if (k >= sizeof(virtual_names) / sizeof(virtual_names[0]))
		return 0;
	*e = (struct entry){virtual_names[k], k + 1, S_IFREG, d->position + 1};
	return 1;
}

static void dir_advance(struct fs_dir *d)
{
	const struct dirent64 *raw = (const void *)(d->buf + d->at);

	if (is_virtual(d->position)) {
		d->position++;
		return;
	}
	d->at += raw->d_reclen;
	d->position = raw->d_off;
}

/* Appends one entry, and for readdirplus looks it up, for the counter of this number. Its
 * size, 0 when there is no room. */
static size_t add_entry(fuse_req_t req, struct fs_inode *dir, const struct entry *e,
			char *buf, size_t room, bool plus, uint16_t number)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fuse_entry_param param = {0};
	struct fs_inode *i = NULL;
	struct stat st;
	size_t need;

	param.attr.st_ino = e->ino;
	param.attr.st_mode = e->type;
	fs_stat_public(dir, &param.attr);
	if (!plus) {
		need = fuse_add_direntry(req, buf, room, e->name, &param.attr, e->next);
		return need > room ? 0 : need;
	}
	need = fuse_add_direntry_plus(req, NULL, 0, e->name, &param, e->next);
	if (need > room)
		return 0;
	/* What cannot be looked up is listed all the same, as readdir would. */
	if (strcmp(e->name, ".") != 0 && strcmp(e->name, "..") != 0 &&
	    fs_inode_lookup(m, dir, e->name, &i, &st) == 0) {
		fs_entry_fill(m, i, &st, &param);
		i->priv->listed = number;
		fs_inode_to_kernel(m, i);
	}
	fuse_add_direntry_plus(req, buf, room, e->name, &param, e->next);
	return need;
}

/* Fills buf; its length or -errno. Entries that were added count as looked up. */
static ssize_t fill(fuse_req_t req, struct fs_inode *dir, struct fs_dir *d, off_t off,
		    char *buf, size_t size, bool plus)
{
	struct fs_mount *m = fs_mount_of(req);
	const bool root = dir == &m->root;
	const bool top = dir->state && fs_state_virtual(m, dir, virtual_names[0]);
	const uint16_t number = listing_number(dir);
	uint32_t entries = 0;
	size_t used = 0;
	struct entry e;
	int r;

	r = dir_seek(d, off);
	if (r)
		return r;
	while ((r = dir_peek(d, top, &e)) > 0) {
		size_t n;

		if (root && strcmp(e.name, FS_STATE_NAME) == 0) {
			dir_advance(d);
			continue;
		}
		n = add_entry(req, dir, &e, buf + used, size - used, plus, number);
		if (!n)
			break;
		used += n;
		entries++;
		dir_advance(d);
	}
	if (plus)
		entries_filled(dir, entries);
	return r < 0 && !used ? r : (ssize_t)used;
}

static void readdir_any(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			struct fuse_file_info *fi, bool plus)
{
	struct fs_mount *m = fs_mount_of(req);
	struct fs_dir *d = dir_of(fi);
	cleanup_free char *buf = malloc(size);
	ssize_t n = -ENOMEM;

	/* Before the answer: the attributes in it are good for longer than we count. */
	if (plus && off == 0)
		names_filled(m, fs_inode_of(m, ino));
	pthread_mutex_lock(&d->lock);
	if (!d->buf)
		d->buf = malloc(DIR_BUFFER);
	if (buf && d->buf)
		n = fill(req, fs_inode_of(m, ino), d, off, buf, size, plus);
	pthread_mutex_unlock(&d->lock);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, buf, (size_t)n);
}

void fs_op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		   struct fuse_file_info *fi)
{
	readdir_any(req, ino, size, off, fi, false);
}

void fs_op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	readdir_any(req, ino, size, off, fi, true);
}
