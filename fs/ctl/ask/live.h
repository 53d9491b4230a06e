/* SPDX-License-Identifier: MIT */
/* Draws the page of a mount in a terminal, anew each second. One thread. */
#ifndef FS_CTL_LIVE_H
#define FS_CTL_LIVE_H

#include <stdbool.h>

/* Returns true when standard output is a terminal that can show such a page. */
bool ctl_live_possible(void);

struct ctl_live_events {
	int fd; /* the control socket that tells events; -1: the page has none */
	/* Reads an event from `fd`: *line, to be freed, is NULL if it is not to be shown.
	 * False: the daemon is gone. */
	bool (*next)(void *ctx, char **line);
	/* Connects again, to set `fd`; called each second while it is -1. */
	void (*again)(void *ctx);
	void *ctx;
};

/* Draws the page of the mount that `path` lies in until q is pressed or a signal comes;
 * `events` may be NULL. An exit code. */
int ctl_live(const char *path, struct ctl_live_events *events);

#endif
