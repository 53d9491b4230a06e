/* SPDX-License-Identifier: MIT */
/* Sends log lines as they are logged, for `jsonlfsctl watch`. Any thread. */
#ifndef FS_CONTROL_EVENTS_H
#define FS_CONTROL_EVENTS_H

#include <stdint.h>
#include <sys/types.h>

void fs_control_events_init(void);
/* Sends the lines about programs of user `uid` to `fd`, until the peer closes it, or has
 * not read one for too long, or fs_control_events_end was called. */
uint64_t fs_control_events_begin(void);
/* Sends those about programs of user `uid` since `cursor` to `fd`, until the peer goes, or has
 * not taken one for too long, or fs_control_events_end was called. */
#define FS_CONTROL_EVENTS_ALL ((uid_t)-1)
void fs_control_events_follow(int fd, uid_t uid, uint64_t cursor);
void fs_control_events_end(void);

#endif
