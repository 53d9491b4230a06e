/* SPDX-License-Identifier: MIT */
/* Handles what the library reports of a handle: refused bytes, counted records,
 * unfinished records. */
#ifndef FS_LOG_EVENTS_H
#define FS_LOG_EVENTS_H

#include "record/writer.h"

/* The callbacks for the writer of a handle; ctx is the handle. */
extern const struct jsonl_writer_events fs_log_writer_events;

#endif
