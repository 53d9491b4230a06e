/* SPDX-License-Identifier: MIT */
/* The inode table, paths, versions and listings of a vault without a mount. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/version.h"
#include "check.h"
#include "rig.h"
#include "tree/classes.h"
#include "tree/descriptor.h"
#include "tree/handles.h"
#include "tree/identity.h"
#include "tree/listing.h"
#include "tree/path.h"
#include "tree/stat.h"

static struct fs_mount *const m = &rig_mount;

static struct fs_inode *root(void)
{
	return &rig_mount.tree.root;
}

static const char *path_of(struct fs_inode *dir, const char *name)
{
	static char path[PATH_MAX];
	int rc = fs_inode_path(m, dir, name, path, sizeof(path));

	return rc ? jsonl_error_text(rc) : path;
}

/* ---- nodes ---- */

static void test_nodes(void)
{
	struct fs_inode *a, *again, *plain;
	fuse_ino_t number;

	rig_begin(NULL);
	rig_put("a.jsonl", "[1]\n");
	rig_put("b.txt", "");
	CHECK(rig_nodes() == 1 && fs_inode_number(m, root()) == FUSE_ROOT_ID);
	a = rig_lookup(root(), "a.jsonl");
	plain = rig_lookup(root(), "b.txt");
	CHECK(a->class == JSONL_CLASS_GOVERNED && plain->class == JSONL_CLASS_PLAIN);
	again = rig_lookup(root(), "a.jsonl");
	CHECK(again == a && rig_nodes() == 3);
	CHECK(!rig_lookup(root(), "none") && !rig_lookup(root(), "..") &&
	      rig_nodes() == 3);
	CHECK(fs_inode_find(m, a->dev, a->ino, JSONL_CLASS_PLAIN) == NULL);
	CHECK(fs_inode_find(m, a->dev, a->ino, JSONL_CLASS_GOVERNED) == a);
	fs_inode_unref(m, a);
	/* The kernel's count keeps it when we let go. */
	fs_inode_to_kernel(m, again);
	fs_inode_unref(m, a);
	fs_inode_unref(m, plain);
	number = fs_inode_number(m, a);
	CHECK(rig_nodes() == 2 && fs_inode_of(m, number) == a);
	fs_inode_forget(m, a, 1);
	CHECK(rig_nodes() == 1);
	rig_end();
}

/* The same file under another class is another node, which says so. */
static void test_classes(void)
{
	struct fs_inode *log, *old;

	rig_begin(NULL);
	rig_put("a.jsonl", "[1]\n");
	log = rig_lookup(root(), "a.jsonl");
	CHECK(renameat(rig_dir_fd, "a.jsonl", rig_dir_fd, "a.jsonl.1") == 0);
	old = rig_lookup(root(), "a.jsonl.1");
	CHECK(old != log && old->ino == log->ino && old->class == JSONL_CLASS_PLAIN);
	CHECK(fs_inode_number_as(m, log, JSONL_CLASS_PLAIN) == fs_inode_number(m, old));
	CHECK(fs_inode_number_as(m, log, JSONL_CLASS_TEXT) == 0);
	fs_inode_unref(m, old);
	fs_inode_unref(m, log);
	CHECK(rig_nodes() == 1);
	rig_end();
}

/* A file that is gone, and one that was made since, are not taken for each other,
 * whatever number the new one got. */
static void test_numbers_come_again(void)
{
	struct fs_inode *first, *second;
	int fd;

	rig_begin(NULL);
	/* Only root may open a file by its handle; by path and number it cannot be told. */
	for (int n = 0; n < 20 && fs_identity_handles(m); n++) {
		rig_put("a.jsonl", "[1]\n");
		first = rig_lookup(root(), "a.jsonl");
		fd = fs_inode_fd_get(m, first);
		CHECK(fd >= 0);
		fs_inode_fd_put(m, first, fd);
		CHECK(unlinkat(rig_dir_fd, "a.jsonl", 0) == 0);
		fs_descriptor_drop(m, first); /* so that the number is free */
		rig_put("a.jsonl", "[2]\n");
		second = rig_lookup(root(), "a.jsonl");
		CHECK(second != first);
		CHECK(fs_descriptor_hash(m, first) != fs_descriptor_hash(m, second));
		CHECK(fs_inode_open(m, first, O_RDONLY) == -ESTALE);
		fs_inode_unref(m, first);
		fs_inode_unref(m, second);
		CHECK(unlinkat(rig_dir_fd, "a.jsonl", 0) == 0);
	}
	CHECK(rig_nodes() == 1);
	rig_end();
}

/* ---- paths ---- */

static void test_paths(void)
{
	struct fs_inode *d, *e, *log;
	char *long_path;

	rig_begin(NULL);
	CHECK(mkdirat(rig_dir_fd, "d", 0755) == 0 &&
	      mkdirat(rig_dir_fd, "d/e", 0755) == 0);
	rig_put("d/e/a.jsonl", "");
	CHECK(strcmp(path_of(root(), NULL), "") == 0);
	CHECK(strcmp(path_of(root(), "x"), "x") == 0);
	d = rig_lookup(root(), "d");
	e = rig_lookup(d, "e");
	log = rig_lookup(e, "a.jsonl");
	CHECK(strcmp(path_of(e, "a.jsonl"), "d/e/a.jsonl") == 0);
	CHECK(strcmp(path_of(log, NULL), "d/e/a.jsonl") == 0);
	/* A directory on the way has another name by now. */
	CHECK(renameat(rig_dir_fd, "d/e", rig_dir_fd, "f") == 0);
	fs_inode_moved(m, e, root(), "f");
	CHECK(strcmp(path_of(log, NULL), "f/a.jsonl") == 0);
	long_path = fs_inode_long_path(m, log);
	CHECK(long_path && strcmp(long_path, "f/a.jsonl") == 0);
	free(long_path);
	fs_inode_unref(m, log);
	fs_inode_unref(m, e);
	fs_inode_unref(m, d);
	CHECK(rig_nodes() == 1);
	rig_end();
}

/* Deeper than PATH_MAX: no path, but the file is found and opened all the same. */
static void test_deep(void)
{
	struct fs_inode *at, *next;
	char name[201], path[PATH_MAX];
	int fd, dir;

	rig_begin(NULL);
	at = fs_inode_ref(m, root());
	memset(name, 'd', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (int n = 0; n < 25; n++) {
		dir = fs_inode_open(m, at, O_RDONLY | O_DIRECTORY);
		CHECK(dir >= 0 && mkdirat(dir, name, 0755) == 0);
		close(dir);
		next = rig_lookup(at, name);
		fs_inode_unref(m, at);
		at = next;
	}
	CHECK(fs_inode_path(m, at, NULL, path, sizeof(path)) == -ENAMETOOLONG);
	dir = fs_inode_open(m, at, O_RDONLY | O_DIRECTORY);
	fd = openat(dir, "a.txt", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	CHECK(fd >= 0);
	close(fd);
	next = rig_lookup(at, "a.txt");
	fd = fs_inode_open(m, next, O_RDONLY);
	CHECK(fd >= 0);
	close(fd);
	close(dir);
	fs_inode_unref(m, next);
	fs_inode_unref(m, at);
	CHECK(rig_nodes() == 1);
	rig_end();
}

/* ---- versions ---- */

static void test_versions(void)
{
	struct fs_version a, b;
	struct stat st;
	int fd;

	rig_begin(NULL);
	rig_put("a", "1");
	CHECK(fs_version_of(rig_dir_fd, "a", &a, &st) == 0 && st.st_size == 1);
	CHECK(fs_version_of(rig_dir_fd, "a", &b, &st) == 0 && fs_version_same(&a, &b));
	fd = openat(rig_dir_fd, "a", O_RDONLY | O_CLOEXEC);
	CHECK(fs_version_of(fd, "", &b, &st) == 0 && fs_version_same(&a, &b));
	CHECK(fs_version_generation(fd, "") == fs_version_generation(rig_dir_fd, "a"));
	close(fd);
	rig_put("a", "12");
	CHECK(fs_version_of(rig_dir_fd, "a", &b, &st) == 0 && !fs_version_same(&a, &b));
	/* Another file with the same content and times. */
	rig_put("b", "1");
	fd = openat(rig_dir_fd, "b", O_WRONLY | O_CLOEXEC);
	CHECK(futimens(fd, (struct timespec[]){a.mtime, a.mtime}) == 0);
	close(fd);
	CHECK(renameat(rig_dir_fd, "b", rig_dir_fd, "a") == 0);
	CHECK(fs_version_of(rig_dir_fd, "a", &b, &st) == 0 && !fs_version_same(&a, &b));
	CHECK(fs_version_of(rig_dir_fd, "none", &b, &st) == -ENOENT);
	rig_end();
}

/* ---- listings ---- */

static struct fuse_file_info listed(struct fs_inode *dir)
{
	struct fuse_file_info fi = {0};
	int fd = fs_inode_open(m, dir, O_RDONLY | O_DIRECTORY);

	CHECK(fs_listing_join(m, dir, fd, &fi) == 0);
	close(fd);
	return fi;
}

static void test_listing(void)
{
	struct fuse_file_info fi;
	struct fs_inode *dir;

	rig_begin("{\"attr_timeout\": 60, \"entry_timeout\": 60}");
	CHECK(mkdirat(rig_dir_fd, "d", 0755) == 0);
	dir = rig_lookup(root(), "d");
	/* It has changed a moment ago: nothing is kept. */
	fi = listed(dir);
	CHECK(!fi.cache_readdir && !fi.keep_cache);
	fs_listing_leave(dir);
	usleep(2100000); /* also where times are coarse */
	fi = listed(dir);
	CHECK(fi.cache_readdir && !fi.keep_cache);
	fs_listing_filled(m, dir);
	fs_listing_leave(dir);
	/* Filled, and not changed since. */
	fi = listed(dir);
	CHECK(fi.cache_readdir && fi.keep_cache);
	fs_listing_leave(dir);
	rig_put("d/a", "");
	fi = listed(dir);
	CHECK(!fi.cache_readdir && !fi.keep_cache);
	fs_listing_leave(dir);
	fs_inode_unref(m, dir);
	rig_end();
}

int main(void)
{
	test_nodes();
	test_classes();
	test_numbers_come_again();
	test_paths();
	test_deep();
	test_versions();
	test_listing();
	return check_done();
}
