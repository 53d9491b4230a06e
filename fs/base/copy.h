/* SPDX-License-Identifier: MIT */
/* Copies and compares bytes of open files. Any thread, no lock. */
#ifndef FS_BASE_COPY_H
#define FS_BASE_COPY_H

#include <sys/types.h>

#include "base/error.h"

struct fs_mount;
struct jsonl_file;
struct jsonl_io;

/* Compares the bytes [from, to) of both files. 1: they are the same; 0: they differ, or
 * one file ends before; -errno. */
int fs_same_bytes(const struct jsonl_io *io, int a, int b, off_t from,
		  off_t to) jsonl_must_check;
/* Checks that `src` holds the log's bytes [from, to). 0, -EPERM, or -errno. */
int fs_compare_bytes(const struct jsonl_io *io, struct jsonl_file *file, int src,
		     off_t from, off_t to) jsonl_must_check;
/* Copies bytes to the position of the other descriptor. 0 or -errno. */
int fs_copy_bytes(const struct jsonl_io *io, int from, off_t off, off_t len,
		  int to) jsonl_must_check;

#endif
