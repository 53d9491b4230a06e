/* SPDX-License-Identifier: MIT */
/* Finds the other daemons over the same directory, on this machine or on others
 * (hosts_list.h). What a daemon stages lies in its own directory of the list, and is
 * recovered only by a daemon that gets the lock of that. A daemon also enters the list
 * of the vault's own .jsonlfs when state= names another directory, and those of
 * directories above.
 *
 * A daemon that finds others waits until they have acknowledged that the directory is
 * shared; from then on all of them work by the rules of shared mode. */
#ifndef FS_VAULT_HOSTS_H
#define FS_VAULT_HOSTS_H

#include <stdbool.h>
#include <time.h>

#include "base/error.h"
#include "vault/vault.h"

/* Returns true when the directory is shared, or may be. Any thread, no lock. It can
 * become true while the mount is there, and then stays so. */
static inline bool fs_shared(const struct fs_vault *v)
{
	return v->shared;
}

/* Enters this daemon, takes over what dead ones have left, opens v->daemon_fd, and waits
 * for the others. Starts a thread that looks out for those that come later. 0, or -errno
 * after a message on standard error. Before the mount, one thread. */
int fs_hosts_join(struct fs_vault *v) jsonl_must_check;
/* Ends that thread and takes this daemon out of the lists. */
void fs_hosts_leave(struct fs_vault *v);

struct fs_host {
	const char *id;
	const char *says; /* JSON: host, pid, mountpoint, shared, version */
	time_t seen;	  /* its last sign of life */
};
/* Calls each() for every other daemon that lives. Any thread. */
void fs_hosts_each(struct fs_vault *v,
		   void (*each)(void *ctx, const struct fs_host *host), void *ctx);

#endif
