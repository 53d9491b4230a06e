/* SPDX-License-Identifier: MIT */
#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/io.h"
#include "rules/config.h"
#include "start/mount.h"
#include "tree/inode_table.h"
#include "tree/lookup.h"

/* A test over a rig that does not stand tells nothing. */
#define MUST(condition)                                                                  \
	do {                                                                             \
		if (!(condition)) {                                                      \
			printf("%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);   \
			exit(1);                                                         \
		}                                                                        \
	} while (0)

struct fs_mount rig_mount;
struct fuse_ctx rig_caller;
struct rig_answer rig_answer;
int rig_reply_result;
char rig_dir[64];
int rig_dir_fd;

static unsigned descriptors; /* that were open before */

/* ---- in libfuse's place ---- */

static int answered(void)
{
	rig_answer.replies++;
	return rig_reply_result;
}

void *fuse_req_userdata(fuse_req_t req)
{
	(void)req;
	return &rig_mount;
}

const struct fuse_ctx *fuse_req_ctx(fuse_req_t req)
{
	(void)req;
	return &rig_caller;
}

int fuse_reply_err(fuse_req_t req, int err)
{
	(void)req;
	rig_answer.error = err;
	return answered();
}

int fuse_reply_write(fuse_req_t req, size_t count)
{
	(void)req;
	rig_answer.written = count;
	return answered();
}

int fuse_reply_buf(fuse_req_t req, const char *buf, size_t size)
{
	(void)req;
	rig_answer.length = size;
	if (size && size <= sizeof(rig_answer.data))
		memcpy(rig_answer.data, buf, size);
	return answered();
}

int fuse_reply_open(fuse_req_t req, const struct fuse_file_info *fi)
{
	(void)req;
	(void)fi;
	return answered();
}

int fuse_reply_entry(fuse_req_t req, const struct fuse_entry_param *e)
{
	(void)req;
	rig_answer.entry = *e;
	return answered();
}

int fuse_reply_attr(fuse_req_t req, const struct stat *attr, double timeout)
{
	(void)req;
	(void)timeout;
	rig_answer.attr = *attr;
	return answered();
}

int fuse_lowlevel_notify_inval_inode(struct fuse_session *se, fuse_ino_t ino, off_t off,
				     off_t len)
{
	(void)se;
	(void)ino;
	(void)off;
	(void)len;
	return 0;
}

/* ---- the vault ---- */

static unsigned count_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

void rig_begin(const char *json)
{
	struct jsonl_config *config = &rig_mount.vault.config;
	char path[80], *error = NULL;
	FILE *f;

	descriptors = count_descriptors();
	memset(&rig_mount, 0, sizeof(rig_mount));
	snprintf(rig_dir, sizeof(rig_dir), "/tmp/jsonlfs-unit.XXXXXX");
	MUST(mkdtemp(rig_dir) != NULL);
	rig_dir_fd = open(rig_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rig_caller = (struct fuse_ctx){
	    .uid = geteuid(), .gid = getegid(), .pid = getpid(), .umask = 022};
	rig_reply_result = 0;
	rig_mount.vault.uid = geteuid();
	rig_mount.vault.source = strdup(rig_dir);
	fs_caller_init(rig_mount.vault.uid);
	MUST(jsonl_config_init(config) == 0);
	if (json) {
		snprintf(path, sizeof(path), "%s.json", rig_dir);
		f = fopen(path, "w");
		MUST(f && fputs(json, f) >= 0 && fclose(f) == 0);
		MUST(jsonl_config_load(config, path, &error) == 0);
		unlink(path);
	}
	rig_mount.vault.pending_max = config->pending_max;
	MUST(fs_mount_init(&rig_mount, rig_dir) == 0);
}

void rig_end(void)
{
	char command[80];
	unsigned now;

	fs_mount_drain(&rig_mount);
	fs_mount_deinit(&rig_mount);
	jsonl_config_deinit(&rig_mount.vault.config);
	free(rig_mount.vault.source);
	close(rig_dir_fd);
	(void)snprintf(command, sizeof(command), "rm -rf %s", rig_dir);
	MUST(system(command) == 0); /* which goes deeper than nftw(3) */
	now = count_descriptors();
	MUST(now == descriptors);
}

fuse_req_t rig_request(void)
{
	memset((void *)&rig_answer, 0, sizeof(rig_answer));
	return (fuse_req_t)&rig_answer;
}

void rig_put(const char *name, const char *content)
{
	const int fd = openat(rig_dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	MUST(write(fd, content, strlen(content)) == (ssize_t)strlen(content));
	MUST(close(fd) == 0);
}

bool rig_holds(const char *name, const char *content)
{
	const int fd = openat(rig_dir_fd, name, O_RDONLY);
	const bool same =
	    jsonl_io_equals(&jsonl_io_system, fd, content, strlen(content), 0) == 1 &&
	    lseek(fd, 0, SEEK_END) == (off_t)strlen(content);

	close(fd);
	return same;
}

struct fs_inode *rig_lookup(struct fs_inode *parent, const char *name)
{
	struct fs_inode *i = NULL;
	struct stat st;

	return fs_inode_lookup(&rig_mount, parent, name, &i, &st) ? NULL : i;
}

size_t rig_nodes(void)
{
	return rig_mount.tree.inodes->count;
}
