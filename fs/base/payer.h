/* SPDX-License-Identifier: MIT */
/* Sets the user on whose behalf the calling thread appends to logs: the blocks are
 * charged to that user. Nothing but appends may run between _set and _clear. */
#ifndef FS_BASE_PAYER_H
#define FS_BASE_PAYER_H

struct fs_ids;
struct fs_mount;
struct jsonl_io;

/* Lets this thread append on behalf of `who` until fs_payer_clear. */
void fs_payer_set(const struct fs_ids *who);
void fs_payer_clear(void);
/* Fills in the calls of `system`, jsonl_io_system or jsonl_io_remote, of which appends
 * and their reservations run as the payer. */
void fs_payer_io(struct jsonl_io *io, const struct jsonl_io *system);

#endif
