/* SPDX-License-Identifier: MIT */
/* Sets the user on whose behalf the calling thread appends to logs: the blocks are
 * charged to that user. Nothing but appends may run between _set and _clear. */
#ifndef FS_BASE_PAYER_H
#define FS_BASE_PAYER_H

#include "base/io.h"

struct fs_ids;

/* Appends and their reservations run as the payer, by the calls of `system`. */
struct fs_payer_io {
	struct jsonl_io io; /* first: cast back */
	const struct jsonl_io *system;
};

/* Lets this thread append on behalf of `who` until fs_payer_clear. */
void fs_payer_set(const struct fs_ids *who);
void fs_payer_clear(void);
/* Fills it in for `system`, jsonl_io_system or jsonl_io_remote. */
void fs_payer_io(struct fs_payer_io *p, const struct jsonl_io *system);

#endif
