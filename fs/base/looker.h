/* SPDX-License-Identifier: MIT */
/* Defines the child that looks at other processes and at descriptors that they send, and
 * the questions that it answers. For look.c, which is the daemon's side. */
#ifndef FS_BASE_LOOKER_H
#define FS_BASE_LOOKER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/process.h"
#include "rules/limits.h"

#define FS_LOOKER_NAME 512
/* The name by which the executable becomes the child, and the child's end of the socket.
 */
#define FS_LOOKER_ARGV0 "jsonlfs-look"
#define FS_LOOKER_FD	3

enum fs_looker_kind { FS_LOOKER_PROGRAM, FS_LOOKER_CLOSING, FS_LOOKER_CONTENT };

/* Descriptors that come with a question, in this order; all but the first only with
 * FS_LOOKER_CONTENT. */
enum { FS_LOOKER_REPLY, FS_LOOKER_CLIENT, FS_LOOKER_STAGED, FS_LOOKER_LOG, FS_LOOKER_FDS };

struct fs_looker_question {
	enum fs_looker_kind kind;
	uid_t uid;
	gid_t gid;
	bool root;  /* the daemon is root, so the child may act as the client */
	pid_t program;
	struct fs_closing_question closing;
	struct jsonl_limits limits;
};

struct fs_looker_answer {
	enum fs_closing closing;
	char name[FS_LOOKER_NAME];
	bool done; /* of the answers about a content: no more follow */
	int rc;
	off_t base;
	bool unended;
};

/* Answers questions until the other end of the socket is closed. */
_Noreturn void fs_looker_main(void);

#endif
