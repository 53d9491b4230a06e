/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const model_op_names[MODEL_OPS] = {
    "openat",	"pread",     "writev", "position", "fstat",  "ftruncate",
    "reserve",	"fdatasync", "fsync",  "trylock",  "unlock", "drop_cache",
    "renameat", "unlinkat",  "mark",   "marked",   "unmark", "set_aside",
};

static void fail_hard(void)
{
	abort();
}

/* ---- files ---- */

static void file_room(struct model *m, struct model_file *f, size_t size)
{
	size_t cap = f->cap ? f->cap : 256;
	size_t old = f->cap;

	if (size <= f->cap)
		return;
	while (cap < size)
		cap *= 2;
	f->data = realloc(f->data, cap);
	f->disk = realloc(f->disk, cap);
	f->dirty = realloc(f->dirty, cap / m->block + 1);
	if (!f->data || !f->disk || !f->dirty)
		fail_hard();
	memset(f->data + old, 0, cap - old);
	memset(f->disk + old, 0, cap - old);
	memset(f->dirty + (old ? old / m->block + 1 : 0), 0,
	       cap / m->block + 1 - (old ? old / m->block + 1 : 0));
	f->cap = cap;
}

static void file_touch(struct model *m, struct model_file *f)
{
	if (m->fresh_times)
		clock_gettime(CLOCK_REALTIME, &f->mtime);
	f->meta.size = f->size;
	if (f->nmetas < MODEL_SIZES &&
	    (!f->nmetas || memcmp(&f->metas[f->nmetas - 1], &f->meta, sizeof(f->meta))))
		f->metas[f->nmetas++] = f->meta;
}

static void file_dirty(struct model *m, struct model_file *f, size_t from, size_t to)
{
	for (size_t b = from / m->block; b * m->block < to; b++)
		f->dirty[b] = true;
}

static void file_append(struct model *m, struct model_file *f, const void *data,
			size_t len)
{
	if (!len)
		return;
	file_room(m, f, f->size + len);
	memcpy(f->data + f->size, data, len);
	file_dirty(m, f, f->size, f->size + len);
	f->size += len;
	file_touch(m, f);
}

static void file_resize(struct model *m, struct model_file *f, size_t size)
{
	file_room(m, f, size);
	if (size < f->size) {
		/* The rest of the last block becomes zero, those behind it are gone. */
		memset(f->data + size, 0, f->size - size);
		file_dirty(m, f, size, f->size);
	}
	f->size = size;
	file_touch(m, f);
}

static void file_sync(struct model *m, struct model_file *f)
{
	for (size_t b = 0; b * m->block < f->cap; b++) {
		size_t n =
		    f->cap - b * m->block < m->block ? f->cap - b * m->block : m->block;

		if (f->dirty[b])
			memcpy(f->disk + b * m->block, f->data + b * m->block, n);
		f->dirty[b] = false;
	}
	memset(f->disk + f->size, 0, f->cap - f->size); /* never shown again */
	f->disk_size = f->size;
	f->nmetas = 0;
	f->disk_meta = f->meta;
}

static void file_lose(struct model *m, struct model_file *f)
{
	if (m->loss == MODEL_LOSE_NONE)
		return;
	for (size_t b = 0; b * m->block < f->cap; b++)
		f->dirty[b] = false;
	if (m->loss == MODEL_LOSE_DATA) {
		if (f->size < f->disk_size)
			memset(f->disk + f->size, 0, f->disk_size - f->size);
		f->disk_size = f->size;
		f->nmetas = 0;
		f->disk_meta = f->meta;
	}
}

/* ---- calls ---- */

static struct model *model_of(const struct jsonl_io *io)
{
	return (struct model *)io;
}

static const struct model_fault *enter(struct model *m, enum model_op op)
{
	if (m->dead)
		return NULL;
	if (m->before)
		m->before(m, op);
	if (m->calls < MODEL_CALLS)
		m->trace[m->calls] = op;
	m->calls++;
	for (int i = 0; i < 2; i++)
		if (m->faults[i].at && m->faults[i].at == m->calls &&
		    m->faults[i].kind != MODEL_NO_FAULT)
			return &m->faults[i];
	return NULL;
}

int model_call(struct model *m, enum model_op op, bool *after)
{
	const struct model_fault *f = enter(m, op);

	*after = false;
	if (m->dead)
		return -EIO;
	if (!f)
		return 0;
	*after = f->kind == MODEL_CUT_AFTER || f->kind == MODEL_FAIL_AFTER;
	if (f->kind == MODEL_CUT_BEFORE || f->kind == MODEL_CUT_MIDDLE ||
	    f->kind == MODEL_CUT_AFTER)
		m->dead = true;
	if (f->kind == MODEL_SHORT)
		return 0;
	return m->dead ? -EIO : -f->code;
}

/* For calls that are done whole or not at all. True: go on and do it; *rc is then what is
 * to be said. */
static bool simple(struct model *m, enum model_op op, int *rc)
{
	bool after;

	*rc = model_call(m, op, &after);
	return !*rc || after;
}

static struct model_file *file_of(struct model *m, int fd)
{
	int n = fd - MODEL_FIRST_FD;

	/* A descriptor that is not open, or is used twice, is an error of the library. */
	if (n < 0 || n >= MODEL_FDS || !m->fds[n].used)
		fail_hard();
	return &m->files[m->fds[n].file];
}

int model_open(struct model *m, int file, int flags, bool dir)
{
	for (int n = 0; n < MODEL_FDS; n++) {
		if (m->fds[n].used)
			continue;
		m->fds[n].used = true;
		m->fds[n].dir = dir;
		m->fds[n].file = file;
		m->fds[n].flags = flags;
		m->fds[n].pos = 0;
		if (!dir)
			m->files[file].exists = true;
		return MODEL_FIRST_FD + n;
	}
	return -EMFILE;
}

static int op_openat(const struct jsonl_io *io, int dir, const char *name, int flags,
		     mode_t mode)
{
	struct model *m = model_of(io);
	struct model_file *f = &m->files[2];
	int rc;

	if (strcmp(name, MODEL_NAMED) != 0)
		return -ENOSYS;
	if (!simple(m, MODEL_OPENAT, &rc))
		return rc;
	if (!f->exists && !(flags & O_CREAT))
		return -ENOENT;
	if (f->exists && flags & O_EXCL)
		return -EEXIST;
	/* One of the same name that was removed is another file. */
	if (!f->exists && (f->size || f->disk_size))
		fail_hard();
	f->exists = true;
	return rc ? rc : model_open(m, 2, flags, false);
}

static int op_close(const struct jsonl_io *io, int fd)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);

	if (f->lock == fd)
		f->lock = 0;
	m->fds[fd - MODEL_FIRST_FD].used = false;
	return 0;
}

static ssize_t op_pread(const struct jsonl_io *io, int fd, void *buf, size_t len,
			off_t off)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (!simple(m, MODEL_PREAD, &rc) || rc)
		return rc;
	if ((size_t)off >= f->size)
		return 0;
	if (len > f->size - (size_t)off)
		len = f->size - (size_t)off;
	memcpy(buf, f->data + off, len);
	return (ssize_t)len;
}

static ssize_t op_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			 int n)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	const struct model_fault *fault = enter(m, MODEL_WRITEV);
	size_t len = 0, keep;

	if (m->dead)
		return -EIO;
	if (!(m->fds[fd - MODEL_FIRST_FD].flags & O_APPEND))
		fail_hard();
	for (int i = 0; i < n; i++)
		len += iov[i].iov_len;
	keep = len;
	if (fault && (fault->kind == MODEL_CUT_BEFORE || fault->kind == MODEL_FAIL))
		keep = 0;
	else if (fault && fault->kind != MODEL_CUT_AFTER && fault->keep < len)
		keep = fault->keep;
	for (size_t i = 0, left = keep; left; i++) {
		size_t part = iov[i].iov_len < left ? iov[i].iov_len : left;

		file_append(m, f, iov[i].iov_base, part);
		left -= part;
	}
	m->fds[fd - MODEL_FIRST_FD].pos = (off_t)f->size;
	if (!fault || fault->kind == MODEL_SHORT)
		return (ssize_t)keep;
	if (fault->kind == MODEL_FAIL || fault->kind == MODEL_FAIL_AFTER)
		return -fault->code;
	m->dead = true;
	return -EIO;
}

static off_t op_position(const struct jsonl_io *io, int fd)
{
	struct model *m = model_of(io);
	int rc;

	file_of(m, fd);
	if (!simple(m, MODEL_POSITION, &rc) || rc)
		return rc;
	return m->fds[fd - MODEL_FIRST_FD].pos;
}

static int op_fstat(const struct jsonl_io *io, int fd, struct stat *st)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (!simple(m, MODEL_FSTAT, &rc) || rc)
		return rc;
	*st = (struct stat){
	    .st_mode = S_IFREG | 0644, .st_size = (off_t)f->size, .st_mtim = f->mtime};
	return 0;
}

static int op_ftruncate(const struct jsonl_io *io, int fd, off_t len)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (!simple(m, MODEL_FTRUNCATE, &rc))
		return rc;
	if (!m->broken.no_undo)
		file_resize(m, f, (size_t)len);
	return rc;
}

static int op_reserve(const struct jsonl_io *io, int fd, off_t off, off_t len)
{
	struct model *m = model_of(io);
	int rc;

	file_of(m, fd);
	simple(m, MODEL_RESERVE, &rc);
	return rc;
}

static int sync_once(struct model *m, int fd, enum model_op op)
{
	struct model_file *f = file_of(m, fd);
	bool dir = m->fds[fd - MODEL_FIRST_FD].dir;
	int rc;

	if (simple(m, op, &rc)) {
		if (dir && !m->broken.no_dir_sync)
			f->exists_on_disk = f->exists;
		else if (!dir && !m->broken.no_sync &&
			 !(m->broken.no_intent_sync && f == &m->files[1]))
			file_sync(m, f);
	} else if (!dir && !m->dead) {
		file_lose(m, f);
	}
	return rc;
}

static int op_fdatasync(const struct jsonl_io *io, int fd)
{
	struct model *m = model_of(io);
	int rc = sync_once(m, fd, MODEL_FDATASYNC);

	return rc && m->broken.retried_sync ? sync_once(m, fd, MODEL_FDATASYNC) : rc;
}

static int op_fsync(const struct jsonl_io *io, int fd)
{
	struct model *m = model_of(io);
	int rc = sync_once(m, fd, MODEL_FSYNC);

	return rc && m->broken.retried_sync ? sync_once(m, fd, MODEL_FSYNC) : rc;
}

static int op_trylock(const struct jsonl_io *io, int fd)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (!simple(m, MODEL_TRYLOCK, &rc))
		return rc;
	if (m->broken.no_lock)
		return rc;
	if (f->lock && f->lock != fd)
		return -EWOULDBLOCK;
	f->lock = fd;
	return rc;
}

static int op_unlock(const struct jsonl_io *io, int fd)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (simple(m, MODEL_UNLOCK, &rc) && f->lock == fd)
		f->lock = 0;
	return rc;
}

static int op_drop_cache(const struct jsonl_io *io, int fd, off_t off, off_t len)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (!simple(m, MODEL_DROP_CACHE, &rc) || m->broken.no_drop)
		return rc;
	for (size_t b = (size_t)off / m->block; b * m->block < f->cap; b++) {
		size_t n =
		    f->cap - b * m->block < m->block ? f->cap - b * m->block : m->block;

		if (!f->dirty[b])
			memcpy(f->data + b * m->block, f->disk + b * m->block, n);
	}
	return rc;
}

static int op_renameat(const struct jsonl_io *io, int odir, const char *oname, int ndir,
		       const char *nname, unsigned flags)
{
	return -ENOSYS;
}

static int op_unlinkat(const struct jsonl_io *io, int dir, const char *name)
{
	struct model *m = model_of(io);
	struct model_file *f = &m->files[2];
	int rc;

	if (strcmp(name, MODEL_NAMED) != 0)
		return -ENOSYS;
	if (!simple(m, MODEL_UNLINKAT, &rc))
		return rc;
	if (!f->exists)
		return -ENOENT;
	f->exists = m->broken.no_unlink;
	return rc;
}

static int op_mark(const struct jsonl_io *io, int fd, const void *value, size_t len)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (!simple(m, MODEL_MARK, &rc))
		return rc;
	if (len > MODEL_MARK_MAX)
		fail_hard();
	memset(f->meta.mark, 0, MODEL_MARK_MAX);
	memcpy(f->meta.mark, value, len);
	f->meta.mark_len = len;
	file_touch(m, f);
	return rc;
}

static ssize_t op_marked(const struct jsonl_io *io, int fd, void *value, size_t size)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (!simple(m, MODEL_MARKED, &rc) || rc)
		return rc;
	if (!f->meta.mark_len)
		return -ENODATA;
	if (size < f->meta.mark_len)
		return -ERANGE;
	memcpy(value, f->meta.mark, f->meta.mark_len);
	return (ssize_t)f->meta.mark_len;
}

static int op_unmark(const struct jsonl_io *io, int fd)
{
	struct model *m = model_of(io);
	struct model_file *f = file_of(m, fd);
	int rc;

	if (!simple(m, MODEL_UNMARK, &rc))
		return rc;
	if (!rc && !f->meta.mark_len)
		return -ENODATA;
	memset(f->meta.mark, 0, MODEL_MARK_MAX);
	f->meta.mark_len = 0;
	file_touch(m, f);
	return rc;
}

/* ---- life ---- */

void model_init(struct model *m)
{
	*m = (struct model){
	    .io =
		{
		    .openat = op_openat,
		    .close = op_close,
		    .pread = op_pread,
		    .writev = op_writev,
		    .position = op_position,
		    .fstat = op_fstat,
		    .ftruncate = op_ftruncate,
		    .reserve = op_reserve,
		    .fdatasync = op_fdatasync,
		    .fsync = op_fsync,
		    .trylock = op_trylock,
		    .unlock = op_unlock,
		    .drop_cache = op_drop_cache,
		    .renameat = op_renameat,
		    .unlinkat = op_unlinkat,
		    .mark = op_mark,
		    .marked = op_marked,
		    .unmark = op_unmark,
		},
	    .block = 32,
	};
	for (int i = 0; i < MODEL_FILES; i++)
		file_room(m, &m->files[i], 1);
}

void model_set_block(struct model *m, size_t bytes)
{
	m->block = bytes;
	for (int i = 0; i < MODEL_FILES; i++) {
		free(m->files[i].dirty);
		m->files[i].dirty = calloc(m->files[i].cap / bytes + 1, 1);
		if (!m->files[i].dirty)
			fail_hard();
	}
}

void model_deinit(struct model *m)
{
	for (int i = 0; i < MODEL_FILES; i++) {
		free(m->files[i].data);
		free(m->files[i].disk);
		free(m->files[i].dirty);
	}
}

void model_copy(struct model *to, const struct model *from)
{
	*to = *from;
	for (int i = 0; i < MODEL_FILES; i++) {
		struct model_file *f = &to->files[i];
		size_t blocks = f->cap / from->block + 1;

		f->data = malloc(f->cap);
		f->disk = malloc(f->cap);
		f->dirty = malloc(blocks);
		if (!f->data || !f->disk || !f->dirty)
			fail_hard();
		memcpy(f->data, from->files[i].data, f->cap);
		memcpy(f->disk, from->files[i].disk, f->cap);
		memcpy(f->dirty, from->files[i].dirty, blocks);
	}
}

void model_put(struct model *m, int file, const void *data, size_t len, bool synced)
{
	struct model_file *f = &m->files[file];

	f->exists = true;
	file_append(m, f, data, len);
	if (!synced)
		return;
	f->exists_on_disk = true;
	file_sync(m, f);
}

void model_outside(struct model *m, int file, const void *data, size_t len)
{
	file_append(m, &m->files[file], data, len);
}

void model_restart(struct model *m)
{
	memset(m->fds, 0, sizeof(m->fds));
	for (int i = 0; i < MODEL_FILES; i++)
		m->files[i].lock = 0;
	memset(m->faults, 0, sizeof(m->faults));
	m->broken = (struct model_broken){0};
	m->dead = false;
	m->before = NULL;
}

/* ---- power cuts ---- */

struct cutter {
	const struct model *m;
	void (*fn)(struct model *after, void *ctx);
	void *ctx;
	unsigned count;
	const struct model_meta *meta; /* the mark of the states to come */
};

/* Bytes of this block that have got to the disk when writing has come to `upto`. What
 * replaces older bytes comes whole, since a sector does; what is added may end anywhere.
 */
static size_t block_part(const struct model *m, size_t at, size_t n, size_t upto)
{
	const struct model_file *f = &m->files[0];
	size_t old = f->disk_size > at ? f->disk_size - at : 0;

	if (upto <= at)
		return 0;
	if (memcmp(f->data + at, f->disk + at, old < n ? old : n) != 0)
		return n;
	return n < upto - at ? n : upto - at;
}

/* What the disk holds when bytes below `upto` of the blocks in `mask` have got there. */
static void cut_one(struct cutter *c, bool exists, size_t size, size_t upto,
		    uint64_t mask)
{
	const struct model_meta *meta =
	    c->m->broken.late_mark ? &c->m->files[0].disk_meta : c->meta;
	const struct model_file *from = &c->m->files[0];
	struct model after;
	struct model_file *to = &after.files[0];
	unsigned nth = 0;

	model_init(&after);
	model_set_block(&after, c->m->block);
	if (exists) {
		file_room(&after, to, from->cap);
		memcpy(to->data, from->disk, from->cap);
		for (size_t b = 0; b * c->m->block < from->cap; b++) {
			size_t at = b * c->m->block;
			size_t n =
			    from->cap - at < c->m->block ? from->cap - at : c->m->block;

			if (!from->dirty[b])
				continue;
			if (mask & (1ULL << (nth++ & 63)))
				memcpy(to->data + at, from->data + at,
				       block_part(c->m, at, n, upto));
		}
		memset(to->data + size, 0, to->cap - size);
		memcpy(to->disk, to->data, to->cap);
		to->size = to->disk_size = size;
		to->meta = to->disk_meta = *meta;
		to->exists = to->exists_on_disk = true;
	}
	c->count++;
	c->fn(&after, c->ctx);
	model_deinit(&after);
}

/* Sizes are taken in steps that still meet every byte of a small file. */
static void cut_in_order(struct cutter *c, size_t size, size_t first_dirty)
{
	size_t step = size > 512 ? size / 32 : 1;

	for (size_t upto = first_dirty; upto < size; upto += step)
		cut_one(c, true, size, upto, ~0ULL);
	cut_one(c, true, size, size, ~0ULL);
}

static void cut_subsets(struct cutter *c, size_t size)
{
	const struct model_file *f = &c->m->files[0];
	unsigned ndirty = 0;

	for (size_t b = 0; b * c->m->block < f->cap; b++)
		ndirty += f->dirty[b];
	if (ndirty > 8)
		ndirty = 8;
	for (uint64_t mask = 0; mask < 1ULL << ndirty; mask++)
		cut_one(c, true, size, f->cap,
			ndirty < 8 ? mask : mask * 0x0101010101010101ULL);
}

unsigned model_power_cuts(const struct model *m, bool any,
			  void (*fn)(struct model *after, void *ctx), void *ctx)
{
	const struct model_file *f = &m->files[0];
	struct cutter c = {.m = m, .fn = fn, .ctx = ctx, .meta = &f->disk_meta};
	size_t size = f->disk_size, first = f->cap;

	for (size_t b = 0; b * m->block < f->cap && first == f->cap; b++)
		if (f->dirty[b])
			first = b * m->block;
	if (!f->exists_on_disk)
		cut_one(&c, false, 0, 0, 0);
	for (unsigned i = 0; i <= f->nmetas; i++) {
		size_t next = i < f->nmetas ? f->metas[i].size : size;
		size_t step = next > size && next - size > 512 ? (next - size) / 32 : 1;

		if (any) {
			cut_subsets(&c, size);
		} else {
			/* On the way to a greater size the file may end anywhere; what is
			 * written then is there, or is not. */
			for (size_t s = size; s < next; s += step) {
				cut_one(&c, true, s, s, ~0ULL);
				cut_one(&c, true, s, f->disk_size, ~0ULL);
			}
			cut_in_order(&c, size, first < size ? first : size);
		}
		size = next;
		if (i < f->nmetas)
			c.meta = &f->metas[i];
	}
	return c.count;
}
