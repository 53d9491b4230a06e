/* SPDX-License-Identifier: MIT */
/* Puts bytes that are kept out of a file, or cut off one, into the quarantine, and counts
 * them. Any thread, no lock. */
#ifndef FS_VAULT_ASIDE_H
#define FS_VAULT_ASIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/error.h"
#include "quarantine/quarantine.h"

struct fs_vault;

/* Stores an item. `last_copy`: if that fails the bytes are gone, and are counted and
 * logged as lost. 0 with the entry's name, or -errno with "". */
int fs_aside(struct fs_vault *v, const struct jsonl_quarantine_item *item, bool last_copy,
	     char name[JSONL_QUARANTINE_NAME]);
/* Stores, durably, bytes that the library is about to cut off the file `fd` at `at`
 * (jsonl_file_events.set_aside). 0 with the entry's name, or -errno. */
int fs_aside_cut(struct fs_vault *v, const char *path, int fd, const char *event,
		 int code, const struct iovec *iov, int niov, off_t at, uint64_t offset,
		 char name[JSONL_QUARANTINE_NAME]) jsonl_must_check;

#endif
