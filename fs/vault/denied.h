/* SPDX-License-Identifier: MIT */
/* Logs and counts operations that the rules refuse. Any thread. */
#ifndef FS_VAULT_DENIED_H
#define FS_VAULT_DENIED_H

#include "base/fuse.h"

/* Logs and counts one refused operation. */
void fs_denied(fuse_req_t req, const char *operation, const char *path, const char *why);

#endif
