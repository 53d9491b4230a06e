/* SPDX-License-Identifier: MIT */
/* Describes a request of the control socket to the verbs. */
#ifndef FS_CONTROL_REQUEST_H
#define FS_CONTROL_REQUEST_H

#include <stdbool.h>
#include <sys/types.h>

struct fs_mount;
struct jsonl_report;

struct fs_control_request {
	struct fs_mount *m;
	pid_t pid;
	uid_t uid;
	gid_t gid;
	bool owner; /* from root, or from the user that mounted */
	/* From those, or from the owner of the vault's directory, who may list, restore
	 * and drop every entry but has no power over the files of others. */
	bool vault_owner;
	const struct jsonl_report *args;
	/* The connection. The packet is still unread, with the descriptors that came with
	 * it, which this process must not take (base/look.h). */
	int client;
	struct jsonl_report *reply;
};

#endif
