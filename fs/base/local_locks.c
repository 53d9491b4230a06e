/* SPDX-License-Identifier: MIT */
#include "base/local_locks.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

/* nfs(5), mount.cifs(8); the others have no locks in their protocol, or do not use them.
 */
static const struct {
	const char *type, *option; /* NULL: with any */
	const char *name;
} local[] = {
    {"fuse.sshfs", NULL, "sshfs"},
    {"9p", NULL, "9p"},
    {"nfs", "nolock", "nfs with nolock"},
    {"nfs", "local_lock=flock", "nfs with local_lock"},
    {"nfs", "local_lock=all", "nfs with local_lock"},
    {"cifs", "nobrl", "cifs with nobrl"},
    {"smb3", "nobrl", "smb3 with nobrl"},
};

static bool has_option(const char *options, const char *option)
{
	size_t len = strlen(option);

	for (const char *at = options; (at = strstr(at, option)); at += len)
		if ((at == options || at[-1] == ',') && (!at[len] || at[len] == ','))
			return true;
	return false;
}

/* `options`: of the file system. */
static const char *judge(const char *type, const char *options)
{
	for (size_t n = 0; n < sizeof(local) / sizeof(local[0]); n++)
		if (strcmp(type, local[n].type) == 0 &&
		    (!local[n].option || has_option(options, local[n].option)))
			return local[n].name;
	return NULL;
}

const char *fs_local_locks(FILE *table, unsigned long long id)
{
	cleanup_free char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, table) > 0) {
		char *rest = strstr(line, " - ");
		char *type, *options;

		if (strtoull(line, NULL, 10) != id || !rest)
			continue;
		rest[strcspn(rest, "\n")] = '\0';
		rest += strlen(" - ");
		type = strsep(&rest, " ");
		(void)strsep(&rest, " "); /* what is mounted */
		options = rest ? rest : type;
		return judge(type, options);
	}
	return NULL;
}

const char *fs_local_locks_of(int fd)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	const char *found = NULL;
	struct statx sx;

	if (!table)
		return NULL;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) == 0 &&
	    (sx.stx_mask & STATX_MNT_ID))
		found = fs_local_locks(table, sx.stx_mnt_id);
	(void)fclose(table);
	return found;
}
