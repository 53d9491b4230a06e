/* Where a file lies and who uses it: is this inside a mount of jsonlfs, who has it open
 * for writing, and how others are kept from it for a moment. One thread. */
#ifndef FS_CTL_PLACE_H
#define FS_CTL_PLACE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "error.h"

struct ctl_place {
	bool inside;   /* in a mount of jsonlfs */
	bool anywhere; /* some jsonlfs is mounted, perhaps over this file's directory */
	char *point;   /* inside: where it is mounted, */
	char *source;  /* and what it was made of; NULL when unknown */
};

/* Looks where `path` lies; when there is no such file yet, where its directory does. 0 or
 * -errno of path. Pair with _free. */
int ctl_place_find(const char *path, struct ctl_place *place) jsonl_must_check;
void ctl_place_free(struct ctl_place *place);
/* "COMMAND is for the unmounted vault ..." on standard error, with what to do. */
void ctl_place_refuse(const char *command, const char *path,
		      const struct ctl_place *place);

/* flock(2) with patience of five seconds: 0 or -errno (-EWOULDBLOCK). */
int ctl_lock(int fd) jsonl_must_check;

/* A guard keeps everybody from opening the file for writing until it is released: they
 * wait. It gives way by itself when they have waited for long, and tells. */
struct ctl_guard {
	int fd;	    /* borrowed, read-only */
	bool lease; /* else there is only /proc to look at */
};

/* 0, or -EBUSY: somebody has it open for writing, or it cannot be told. */
int ctl_guard_take(struct ctl_guard *g, int fd) jsonl_must_check;
/* 0, or -EBUSY: somebody has opened it, or is waiting to. */
int ctl_guard_check(const struct ctl_guard *g) jsonl_must_check;
void ctl_guard_release(struct ctl_guard *g);

#endif
