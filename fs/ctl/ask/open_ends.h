/* SPDX-License-Identifier: MIT */
/* Logs of a mount that lack their last newline, as copies keep them. */
#ifndef FS_CTL_OPEN_ENDS_H
#define FS_CTL_OPEN_ENDS_H

/* Prints those that programs of the caller (of everybody, for root) have left so, and that
 * are so still; nothing when there are none. */
void ctl_print_open_ends(const char *path);

#endif
