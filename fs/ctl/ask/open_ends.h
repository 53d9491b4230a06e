/* SPDX-License-Identifier: MIT */
/* Lists logs of a mount whose last record has no newline. One thread. */
#ifndef FS_CTL_OPEN_ENDS_H
#define FS_CTL_OPEN_ENDS_H

/* Prints the logs that programs of the caller (for root: of everybody) have closed
 * without a newline, if they still lack it. */
void ctl_print_open_ends(const char *path);

#endif
