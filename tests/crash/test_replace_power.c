/* SPDX-License-Identifier: MIT */
/* Power cuts while a whole file is replaced: after every system call, every state that
 * the disk may be in is looked at. Bytes that were not synced may be there up to any of
 * them; a rename may be there or not until the directory is synced. The name must stand
 * for the old content or for the new one, whole; for the new one as soon as the
 * replacement has said that it is done. Models that break a promise must be noticed. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/replace.h"
#include "../unit/check.h"

#define PIECES 4
#define PIECE  5000

enum broken { SOUND, NO_FILE_SYNC, NO_DIR_SYNC, RENAME_FIRST, VARIANTS };

struct disk {
	struct jsonl_io io; /* first: cast back */
	enum broken broken;
	size_t written, durable; /* bytes of the new file */
	bool renamed, rename_durable;
	bool done; /* the replacement has returned 0 */
	unsigned cuts, violations;
};

static struct disk disk;

/* The power goes now. */
static void cut(void)
{
	const size_t whole = (size_t)PIECES * PIECE;

	disk.cuts++;
	/* The old content: good until it was said to be replaced. */
	if (!disk.rename_durable && disk.done)
		disk.violations++;
	/* The new one, with as little of it as may be there. */
	if (disk.renamed && disk.durable < whole)
		disk.violations++;
}

static ssize_t disk_writev(const struct jsonl_io *io, int fd, const struct iovec *iov,
			   int n)
{
	ssize_t got = jsonl_io_system.writev(io, fd, iov, n);

	disk.written += got > 0 ? (size_t)got : 0;
	cut();
	return got;
}

static int disk_fsync(const struct jsonl_io *io, int fd)
{
	struct stat st;

	CHECK(fstat(fd, &st) == 0);
	if (S_ISDIR(st.st_mode) && disk.broken != NO_DIR_SYNC)
		disk.rename_durable = disk.renamed;
	else if (!S_ISDIR(st.st_mode) && disk.broken != NO_FILE_SYNC)
		disk.durable = disk.written;
	cut();
	return 0;
}

static int disk_renameat(const struct jsonl_io *io, int odir, const char *oname, int ndir,
			 const char *nname, unsigned flags)
{
	int rc = jsonl_io_system.renameat(io, odir, oname, ndir, nname, flags);

	disk.renamed = !rc;
	cut();
	return rc;
}

static int replace_in(int dir, int old)
{
	char piece[PIECE];
	struct jsonl_replace r;
	int rc = jsonl_replace_begin(&r, &disk.io, dir, "x.jsonl", old);

	memset(piece, 'x', sizeof(piece));
	for (int k = 0; k < PIECES && !rc; k++)
		rc = jsonl_replace_write(&r, piece, sizeof(piece));
	if (rc)
		return rc;
	if (disk.broken != RENAME_FIRST)
		return jsonl_replace_commit(&r, 0);
	rc = jsonl_replace_rename(&r, 0);
	return rc ? rc : jsonl_replace_settle(&r);
}

/* How many states are wrong. */
static unsigned run(int dir, enum broken broken)
{
	int old = openat(dir, "x.jsonl", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	disk = (struct disk){.io = jsonl_io_system, .broken = broken};
	disk.io.writev = disk_writev;
	disk.io.fsync = disk_fsync;
	disk.io.renameat = disk_renameat;
	CHECK(old >= 0);
	CHECK(replace_in(dir, old) == 0);
	disk.done = true;
	cut();
	close(old);
	CHECK(disk.cuts == PIECES + (broken == RENAME_FIRST ? 3 : 4), "%u cuts",
	      disk.cuts);
	CHECK(unlinkat(dir, "x.jsonl", 0) == 0);
	return disk.violations;
}

int main(void)
{
	char path[] = "test-replace-power-XXXXXX";
	int dir;

	if (!CHECK(mkdtemp(path) != NULL))
		return check_done();
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(run(dir, SOUND) == 0);
	for (int k = SOUND + 1; k < VARIANTS; k++)
		CHECK(run(dir, (enum broken)k) > 0, "variant %d was not noticed", k);
	close(dir);
	CHECK(rmdir(path) == 0);
	return check_done();
}
