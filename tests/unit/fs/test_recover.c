/* SPDX-License-Identifier: MIT */
/* Recovery looks for the log of an intent: gone is what is not there, not what cannot be
 * opened at the moment. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "file/file.h"
#include "log/target.h"
#include "rig.h"
#include "start/recover.h"

static ino_t number(const char *name)
{
	struct stat st = {0};

	CHECK(fstatat(rig_dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
	return st.st_ino;
}

static int look(const char *path, ino_t ino)
{
	struct fs_target t;
	int rc = fs_target_open(&rig_mount, path, ino, &t);

	if (!rc)
		jsonl_file_free(t.file);
	return rc;
}

/* With so many descriptors left. */
static int look_with(unsigned descriptors, const char *path, ino_t ino)
{
	struct rlimit before, tight;
	int fd = dup(0), rc;

	CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	close(fd);
	tight = before;
	tight.rlim_cur = (rlim_t)fd + descriptors;
	CHECK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
	rc = look(path, ino);
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	return rc;
}

static void test_found(void)
{
	ino_t ino;

	rig_begin(NULL);
	rig_put("a.jsonl", "[1]\n");
	ino = number("a.jsonl");
	CHECK(look("a.jsonl", ino) == 0 && look("a.jsonl", 0) == 0);
	/* Where a rotation has put it. */
	CHECK(renameat(rig_dir_fd, "a.jsonl", rig_dir_fd, "a.jsonl.1") == 0);
	CHECK(look("a.jsonl", ino) == 0);
	rig_put("a.jsonl", "[2]\n");
	CHECK(look("a.jsonl", ino) == 0 && look("a.jsonl", ino + 1000) == -ENOENT);
	CHECK(look("none/a.jsonl", ino) == -ENOENT);
	rig_end();
}

static void test_no_descriptors(void)
{
	ino_t ino;

	rig_begin(NULL);
	rig_put("a.jsonl", "[1]\n");
	ino = number("a.jsonl");
	for (unsigned n = 0; n < 2; n++)
		CHECK(look_with(n, "a.jsonl", ino) == -EMFILE, "%u", n);
	CHECK(renameat(rig_dir_fd, "a.jsonl", rig_dir_fd, "a.jsonl.1") == 0);
	for (unsigned n = 0; n < 2; n++)
		CHECK(look_with(n, "a.jsonl", ino) == -EMFILE, "%u: %d", n,
		      look_with(n, "a.jsonl", ino));
	CHECK(look("a.jsonl", ino) == 0);
	rig_end();
}

/* A daemon that is not root's may not open every file. */
static void test_no_permission(void)
{
	ino_t ino;
	int rc;

	rig_begin(NULL);
	rig_put("a.jsonl", "[1]\n");
	ino = number("a.jsonl");
	CHECK(fchmodat(rig_dir_fd, "a.jsonl", 0, 0) == 0);
	CHECK(fchmod(rig_dir_fd, 0755) == 0);
	if (geteuid() == 0)
		CHECK(seteuid(65534) == 0);
	rc = look("a.jsonl", ino);
	CHECK(rc == -EACCES, "%d", rc);
	CHECK(seteuid(getuid()) == 0);
	CHECK(renameat(rig_dir_fd, "a.jsonl", rig_dir_fd, "a.jsonl.1") == 0);
	if (geteuid() == 0)
		CHECK(seteuid(65534) == 0);
	rc = look("a.jsonl", ino);
	CHECK(rc == -EACCES, "%d", rc);
	CHECK(seteuid(getuid()) == 0);
	rig_end();
}

/* When nothing can be listed, nothing is settled: the next look finds it. */
static void test_no_list(void)
{
	struct rlimit before, tight;
	int fd;

	rig_begin(NULL);
	CHECK(!rig_mount.vault.intents_left);
	fd = openat(rig_mount.vault.daemon_fd, "intent-1-2", O_WRONLY | O_CREAT, 0600);
	CHECK(fd >= 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
	tight = before;
	tight.rlim_cur = (rlim_t)fd;
	close(fd);
	CHECK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
	fs_recover(&rig_mount);
	CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
	CHECK(rig_mount.vault.intents_left);
	fs_recover(&rig_mount);
	CHECK(faccessat(rig_mount.vault.daemon_fd, "intent-1-2", F_OK, 0) < 0);
	rig_end();
}

int main(void)
{
	test_found();
	test_no_descriptors();
	test_no_permission();
	test_no_list();
	return check_done();
}
