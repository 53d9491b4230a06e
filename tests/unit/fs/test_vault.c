/* SPDX-License-Identifier: MIT */
/* The state directory, the archive and staged files of a vault without a mount. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "check.h"
#include "rig.h"
#include "tree/handles.h"
#include "vault/archive.h"
#include "vault/archive_table.h"
#include "vault/staged.h"
#include "vault/vault.h"

static struct fs_vault *const v = &rig_mount.vault;

/* ---- the state directory ---- */

static mode_t mode_of(const char *name)
{
	struct stat st = {0};

	CHECK(fstatat(rig_dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0, "%s", name);
	return st.st_mode;
}

static void test_state(void)
{
	rig_begin(NULL);
	CHECK(S_ISDIR(mode_of(".jsonlfs")) && !(mode_of(".jsonlfs") & 022));
	CHECK(!(mode_of(".jsonlfs/quarantine") & 022) &&
	      !(mode_of(".jsonlfs/archive") & 022));
	CHECK((mode_of(".jsonlfs/daemon") & 07777) == 0700);
	CHECK(rig_holds(".jsonlfs/.gitignore", "*\n"));
	rig_end();
}

/* ---- the archive ---- */

static int move(const char *name, char kept[JSONL_ARCHIVED_NAME])
{
	struct stat st;

	CHECK(fstatat(rig_dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
	return fs_archive_link(rig_request(), "unlink", rig_dir_fd, name, name, &st,
			       kept);
}

static bool is_archived(const char *name)
{
	return faccessat(v->archive_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The files of the archive; the pool removes those that went. */
static unsigned archived(unsigned wanted)
{
	unsigned n = wanted + 1;

	for (int tries = 0; n != wanted && tries < 500; tries++) {
		DIR *dir = fdopendir(openat(v->archive_fd, ".", O_RDONLY | O_CLOEXEC));

		if (tries)
			usleep(10000);
		n = 0;
		for (struct dirent *e; dir && (e = readdir(dir));)
			n += e->d_name[0] != '.';
		closedir(dir);
	}
	return n;
}

static void test_archive(void)
{
	char one[JSONL_ARCHIVED_NAME], two[JSONL_ARCHIVED_NAME];
	struct fs_archive_usage usage;
	uint64_t bytes = 0;
	struct stat st;
	int fd;

	rig_begin(NULL);
	rig_put("a.jsonl", "[1]\n");
	CHECK(move("a.jsonl", one) == 0 && is_archived(one));
	CHECK(rig_holds("a.jsonl", "[1]\n")); /* one more name, so far */
	fd = openat(rig_dir_fd, "a.jsonl", O_RDONLY | O_CLOEXEC);
	CHECK(fs_archive_holds(v, fd, 4));
	/* A copy has mode, owner and times of the file. */
	CHECK(fchmodat(rig_dir_fd, "a.jsonl", 0640, 0) == 0 && fstat(fd, &st) == 0);
	CHECK(fs_archive_copy(rig_request(), "unlink", fd, "a.jsonl", &st) == 0);
	close(fd);
	fs_archive_usage(v, &usage);
	CHECK(usage.entries == 2 && usage.bytes == 8 && usage.percent < 80);
	CHECK(fs_archive_drop(v, one, &bytes) == 0 && bytes == 4 && !is_archived(one));
	CHECK(fs_archive_drop(v, one, &bytes) == -ENOENT);
	rig_put("b.jsonl", "[2]\n");
	fd = openat(rig_dir_fd, "b.jsonl", O_RDONLY | O_CLOEXEC);
	CHECK(!fs_archive_holds(v, fd, 4));
	close(fd);
	/* It is taken back. */
	CHECK(move("b.jsonl", two) == 0);
	fs_archive_unlink(v, two);
	fs_archive_usage(v, &usage);
	CHECK(usage.entries == 1 && usage.bytes == 4 && archived(1) == 1);
	rig_end();
}

/* What comes pushes out what is oldest, and what is larger than all is refused. */
static void test_bounds(void)
{
	char kept[8][JSONL_ARCHIVED_NAME], name[32], content[1001];
	struct fs_archive_usage usage;

	rig_begin("{\"archive_max\": \"4000\"}");
	memset(content, ' ', 1000);
	content[1000] = '\0';
	for (int n = 0; n < 8; n++) {
		snprintf(name, sizeof(name), "%d.jsonl", n);
		rig_put(name, content);
		CHECK(move(name, kept[n]) == 0);
	}
	/* Three quarters of it: no owner has more. */
	CHECK(archived(3) == 3);
	CHECK(!is_archived(kept[4]) && is_archived(kept[5]) && is_archived(kept[7]));
	fs_archive_usage(v, &usage);
	CHECK(usage.entries == 3 && usage.bytes == 3000 && usage.max == 4000 &&
	      usage.percent == 100);
	/* Root's own removals, or those of the owner, do not fit beside. */
	fs_archive_bound(v, 500, 30);
	CHECK(move("0.jsonl", kept[0]) == -EDQUOT && !kept[0][0]);
	/* Nothing of it is left behind. */
	fs_archive_usage(v, &usage);
	CHECK(usage.entries == archived((unsigned)usage.entries));
	rig_end();
}

/* Age counts from the removal, which the name tells. */
static void test_age(void)
{
	char name[JSONL_ARCHIVED_NAME];

	rig_begin(NULL);
	CHECK(close(openat(v->archive_fd, "20200101T000000.000000000Z-old",
			   O_CREAT | O_WRONLY, 0600)) == 0);
	rig_put("a.jsonl", "[1]\n");
	CHECK(move("a.jsonl", name) == 0);
	/* Counted at the next mount, which this is. */
	fs_archive_deinit(v);
	CHECK(fs_archive_init(v, fs_inode_is_written) == 0);
	fs_archive_expire(v);
	CHECK(archived(1) == 1 && is_archived(name));
	rig_end();
}

/* ---- staged files ---- */

static ssize_t staged_write(struct fs_staged *s, const char *text, off_t off, bool append)
{
	struct fuse_bufvec in = FUSE_BUFVEC_INIT(strlen(text));

	in.buf[0].mem = (void *)text;
	return fs_staged_write(rig_request(), s, &in, off, append);
}

static bool staged_is(struct fs_staged *s, const char *content)
{
	const size_t len = strlen(content);

	return fs_staged_size(s) == (off_t)len &&
	       jsonl_io_equals(&jsonl_io_system, s->fd, content, len, 0) == 1;
}

static void test_staged(void)
{
	struct fs_staged s;
	int from;

	rig_begin(NULL);
	rig_put("a", "hello world");
	from = openat(rig_dir_fd, "a", O_RDONLY | O_CLOEXEC);
	CHECK(fs_staged_init(v, &s, &rig_caller, from, 5) == 0);
	close(from);
	/* Opened to be written anew: that alone is a change. */
	CHECK(staged_is(&s, "hello") && s.dirty);
	pthread_mutex_lock(&s.lock);
	fs_staged_settled(&s);
	pthread_mutex_unlock(&s.lock);
	CHECK(staged_write(&s, "!", 0, true) == 1 && staged_is(&s, "hello!"));
	CHECK(s.dirty && s.low == 5);
	CHECK(staged_write(&s, "J", 0, false) == 1 && staged_is(&s, "Jello!") &&
	      s.low == 0);
	CHECK(fs_staged_truncate(rig_request(), &s, 2) == 0 && staged_is(&s, "Je"));
	pthread_mutex_lock(&s.lock);
	fs_staged_settled(&s);
	pthread_mutex_unlock(&s.lock);
	CHECK(!s.dirty);
	/* A failure stays until its place is written. */
	pthread_mutex_lock(&s.lock);
	fs_staged_failed(&s.failed, 1, false, -ENOSPC);
	pthread_mutex_unlock(&s.lock);
	CHECK(staged_write(&s, "a", 0, false) == 1 && s.failed.code == -ENOSPC);
	CHECK(staged_write(&s, "b", 1, false) == 1 && s.failed.code == 0);
	/* Nobody finds it by a name. */
	CHECK(faccessat(v->daemon_fd, "stage", F_OK, 0) < 0);
	fs_staged_deinit(&s);
	rig_end();
}

int main(void)
{
	test_state();
	test_archive();
	test_bounds();
	test_age();
	test_staged();
	return check_done();
}
