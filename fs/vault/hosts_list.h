/* SPDX-License-Identifier: MIT */
/* Lists the daemons over one directory. STATE/daemon/hosts has a directory for each, ID,
 * with a file `lock`, which says in JSON who the daemon is and which it keeps locked
 * (flock) while it lives; and a file `shared` once it works by the rules of shared mode.
 * A directory gets its name only after it is locked. `.lock` is locked while somebody
 * enters or leaves. */
#ifndef FS_VAULT_HOSTS_LIST_H
#define FS_VAULT_HOSTS_LIST_H

#include <stdbool.h>
#include <time.h>

#include "base/error.h"

#define FS_HOST_ID   80
#define FS_HOST_SAYS 1024 /* bytes of a daemon's introduction */

struct fs_host_list {
	int fd;	  /* the directory hosts/; closed by fs_host_list_leave */
	int own;  /* hosts/ID */
	int lock; /* hosts/ID/lock */
};

/* Enters `id`, with what it says of itself. `daemon`: the directory in which the daemons
 * lie that have died; what they staged, and what earlier versions left in `daemon`
 * itself, moves to ours, and they go; -1: nothing is taken over. After a failure
 * fs_host_list_leave is called, too. 0; -ENOLCK: locks do not work there; -errno. */
int fs_host_list_enter(struct fs_host_list *l, const char *id, const char *says,
		       int daemon) jsonl_must_check;
/* Takes `id` out of the list, unless its directory has files left, and closes it. A list
 * that is empty then loses its lock file, so that it can be removed. */
void fs_host_list_leave(struct fs_host_list *l, const char *id);
/* Shows that `id` works by the rules of shared mode from now on. */
void fs_host_list_acknowledge(const struct fs_host_list *l);
bool fs_host_list_acknowledged(const struct fs_host_list *l, const char *other);
/* Reads what a daemon says of itself, and its last sign of life. */
void fs_host_list_read(const struct fs_host_list *l, const char *other,
		       char says[FS_HOST_SAYS], time_t *seen);
/* Returns true when this is said by a daemon of this machine whose mount is gone, as far
 * as this mount namespace shows. */
bool fs_host_is_ending(const char *says);
/* Calls fn for each living daemon but `id`, until it returns true. Returns whether it
 * did. */
bool fs_host_list_each(const struct fs_host_list *l, const char *id,
		       bool (*fn)(const struct fs_host_list *l, const char *other,
				  void *ctx),
		       void *ctx);

#endif
