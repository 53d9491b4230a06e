/* SPDX-License-Identifier: MIT */
/* The vault that a path of the command line lies in, mounted or bare, and what is opened
 * in it. One thread. */
#ifndef FS_CTL_VAULT_H
#define FS_CTL_VAULT_H

#include "ctl/find/beneath.h"
#include "ctl/ctl.h"

struct ctl_vault {
	char *root;   /* path of the vault's root; where there is no vault, of the
		       * directory that was asked for, or that the file lies in */
	char *prefix; /* from root to the directory: "" or "dir/" */
	char *name;   /* of the path that was asked for, from root */
	int root_fd;  /* O_PATH */
	struct ctl_spot spot;
	struct ctl_mounts mounts;
	bool is_vault;		       /* bare, with a state directory */
	const struct ctl_mount *mount; /* in which it lies; NULL: it is bare */
	bool part; /* only a part of it is mounted here, without its root */
	struct jsonl_report *status;   /* of the mount; NULL: the vault is bare */
	int status_error; /* why there is no status: -errno; 0 when there is */
};

/* Finds the vault of a directory, or of a file. 0 or -errno (of path itself). Pair with
 * _free if 0. */
int ctl_vault_find(const char *path, struct ctl_vault *v) jsonl_must_check;
/* Does the same for a file that need not exist yet. */
int ctl_vault_place(const char *path, struct ctl_vault *v) jsonl_must_check;
void ctl_vault_free(struct ctl_vault *v);

/* Opens the state directory: `state` when that is given, else ROOT/.jsonlfs. The
 * descriptor or -errno (-EKEYREJECTED: others could have forged what is in it). */
int ctl_vault_state(const struct ctl_vault *v, const char *state) jsonl_must_check;
/* Reads the virtual file NAME of a mount: text, to be freed; NULL and *error (-ENOENT: it
 * is not mounted; -EXDEV: its root is not visible). */
char *ctl_vault_read(const struct ctl_vault *v, const char *name, int *error);

bool ctl_vault_is_directory(const struct ctl_vault *v);
/* Opens the path that was asked for, for reading. The descriptor or -errno (-EINVAL:
 * neither a file nor a directory). */
int ctl_vault_open(const struct ctl_vault *v) jsonl_must_check;
/* Opens the directory that was asked for, or that the file lies in. */
int ctl_vault_open_directory(const struct ctl_vault *v) jsonl_must_check;
/* Opens an argument of the command line for reading: a file, or a pipe made by the
 * shell. The descriptor or -errno. */
int ctl_open_input(const char *path) jsonl_must_check;
/* Returns true when an open file is in the file system of the vault's root. */
bool ctl_vault_serves(const struct ctl_vault *v, int fd);
/* Returns true when an open file lies in a mount of jsonlfs, with that in *mount. */
bool ctl_vault_has_mount(const struct ctl_vault *v, int fd,
			 const struct ctl_mount **mount);
/* Prints that `command` cannot change a file in a mount, and what to do. */
void ctl_vault_refuse(const char *command, const char *path,
		      const struct ctl_mount *mount);
/* Explains why `path` could not be found, opened or read, and what to do. The text is
 * valid until the next call. */
const char *ctl_explain(const char *path, int rc);

#endif
