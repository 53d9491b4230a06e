/* SPDX-License-Identifier: MIT */
/* Asks the daemon of a mounted vault through its control socket, which is found from the
 * mount or from the backing directory. One thread. */
#ifndef FS_CTL_CONTROL_H
#define FS_CTL_CONTROL_H

#include "base/error.h"
#include "ctl/find/vault.h"

/* Connects to the daemon that serves this vault. The descriptor; -ENOENT when none does;
 * -ENOTCONN when the mount is dead; -errno. */
int ctl_control_connect(const struct ctl_vault *v) jsonl_must_check;
/* The same without waiting for a daemon that is being started again. */
int ctl_control_try(const struct ctl_vault *v) jsonl_must_check;
/* Makes a request {"verb": VERB}, to be filled and sent. */
struct jsonl_report *ctl_control_request(const char *verb);
/* Sends a request, which is freed, with `nfds` descriptors. 0 or -errno. */
int ctl_control_send(int fd, struct jsonl_report *request, const int *fds,
		     int nfds) jsonl_must_check;
/* Receives a packet, to be freed; NULL after -errno in *rc (-ECONNRESET: the daemon is
 * gone). */
struct jsonl_report *ctl_control_receive(int fd, int *rc);
/* Connects to the daemon, sends a request and waits for the answer. 0 or the daemon's
 * result, -errno or a verdict; -ENOENT: there is no daemon. *reply (may be NULL) is to
 * be freed in any case; its "why" may say more. */
int ctl_control_ask(const struct ctl_vault *v, struct jsonl_report *request,
		    const int *fds, int nfds,
		    struct jsonl_report **reply) jsonl_must_check;
/* Sends a question that is answered by many packets, and calls take() for each of them
 * before the last one, which says whether all went well. 0 or -errno, as above. */
int ctl_control_each(const struct ctl_vault *v, struct jsonl_report *request,
		     int (*take)(void *ctx, const struct jsonl_report *packet),
		     void *ctx) jsonl_must_check;
/* Asks the daemon to remove the entries `names` of its quarantine or archive, by `verb`,
 * and prints which it could not. 0 or an exit code after a message; -ENOENT: no daemon
 * serves the vault, and nothing was done or printed. */
int ctl_control_drop(const struct ctl_vault *v, const char *verb, const char *path,
		     char *const *names, int count) jsonl_must_check;
/* Explains what went wrong between us and the daemon, and what to do; NULL: another
 * code. */
const char *ctl_control_explain(int rc);

#endif
