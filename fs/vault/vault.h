/* SPDX-License-Identifier: MIT */
/* Holds what a mount is built on: the source, the state directory, the configuration,
 * counters. Constant once the mount is there, unless a field says otherwise. */
#ifndef FS_VAULT_VAULT_H
#define FS_VAULT_VAULT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/engine.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/io.h"
#include "base/payer.h"
#include "base/stats.h"
#include "rules/config.h"
#include "vault/config.h"

struct fs_archive;
struct fs_deferred;
struct fs_hosts;
struct jsonl_policy;
struct jsonl_quarantine;

struct fs_vault {
	/* -s: one thread serves all requests, so that its system calls can be counted;
	 * questions about other processes are left out or asked by that thread. Constant.
	 */
	bool single;
	struct jsonl_config config; /* the configuration of the mount command */
	/* config.h: the configuration that a reload has read */
	struct fs_snapshot snapshot;
	struct jsonl_policy *policy;
	const struct jsonl_io *io;
	struct fs_payer_io log_io; /* for logs: see base/payer.h */
	char *source;		/* absolute path, for messages only */
	char *mountpoint;	/* absolute path */
	/* path of the state directory from the source, if config.state does not name it
	 */
	const char *state;
	int root_fd;		/* O_PATH of the source, opened before the mount */
	int state_fd;		/* the state directory */
	int archive_fd;		/* STATE/archive */
	int common_fd;		/* STATE/daemon */
	int daemon_fd;		/* STATE/daemon/hosts/ID: what we act on, ours alone */
	struct fs_hosts *hosts; /* hosts.h; NULL: not entered in any list of daemons */
	_Atomic bool shared;	/* fs_shared() */
	bool remote; /* shared, on a file system where a host may see old bytes */
	struct fs_engine engine; /* what the vault lies on */
	dev_t device;		 /* of the mount, as programs see it; 0: not known */
	dev_t state_dev;
	ino_t state_ino;
	uid_t uid;		   /* the daemon's user */
	struct timespec started;   /* CLOCK_REALTIME */
	_Atomic bool intents_left; /* unsettled intents: recover before appends */
	/* the session has ended: nothing is kept for later use */
	_Atomic bool draining;

	struct jsonl_quarantine *quarantine;
	struct fs_archive *archive; /* archive.h */
	struct fs_stats stats;
	struct fs_deferred *deferred; /* deferred.h */
	/* bytes of unfinished records in memory, whole mount */
	_Atomic uint64_t pending_bytes;
	/* The bound of pending_bytes, here because a reload may change it. */
	_Atomic uint64_t pending_max;

	/* The path of the control socket; NULL when there is none. */
	const char *_Atomic control_path;
	/* it takes no more requests; those under way end soon */
	_Atomic bool control_stopping;
};

/* struct fs_mount begins with this struct. */
static inline struct fs_vault *fs_vault_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Calls openat(2) below the vault's root, following no symbolic link and never
 * leaving it. Descriptor or -errno. */
int fs_open_beneath(struct fs_vault *v, const char *path, int flags) jsonl_must_check;

#endif
