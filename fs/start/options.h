/* SPDX-License-Identifier: MIT */
/* Parses the command line. */
#ifndef FS_START_OPTIONS_H
#define FS_START_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

struct fs_mount;

enum fs_task { FS_TASK_MOUNT, FS_TASK_HELP, FS_TASK_VERSION };

struct fs_options {
	enum fs_task task;
	const char *source;	/* as given, borrowed from argv */
	const char *mountpoint; /* as given, borrowed from argv */
	char *
	    kernel; /* options that libfuse and the kernel understand, escaped; or NULL */
	bool single; /* one worker thread */
	bool helper; /* called by mount(8), as mount.jsonlfs: some letters differ */
	bool fake;   /* helper -f: all but the mount itself */
	bool sloppy; /* helper -s: unknown options are no error */
};

/* Fills o and m->vault.config, m->foreground, m->debug (config is initialised by it). */
int fs_options_parse(int argc, char **argv, struct fs_options *o, struct fs_mount *m);
/* Checks that messages can go where log= says; m->mountpoint is known by then. */
int fs_options_log(const struct fs_mount *m);
void fs_options_deinit(struct fs_options *o);
void fs_options_help(FILE *to);

#endif
