/* SPDX-License-Identifier: MIT */
/* Carries out requests of the control socket. On the client's thread. */
#ifndef FS_CONTROL_VERBS_H
#define FS_CONTROL_VERBS_H

struct fs_control_request;

/* Carries out one request: 0 or -errno, or a verdict; adds to r->reply. */
int fs_control_run(struct fs_control_request *r, const char *verb);

#endif
