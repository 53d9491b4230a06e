/* SPDX-License-Identifier: MIT */
#include "base/engine.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"

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
static void judge(const char *type, const char *options, struct fs_engine *engine)
{
	(void)snprintf(engine->type, sizeof(engine->type), "%s", type);
	if (strcmp(type, "fuse.glusterfs") == 0) {
		engine->fences = "no";
		engine->longest = JSONL_IO_REQUEST;
	} else if (strcmp(type, "ceph") == 0 || strcmp(type, "fuse.ceph-fuse") == 0) {
		engine->fences = "yes";
	}
	for (size_t n = 0; n < sizeof(local) / sizeof(local[0]); n++)
		if (strcmp(type, local[n].type) == 0 &&
		    (!local[n].option || has_option(options, local[n].option)))
			engine->local_locks = local[n].name;
}

void fs_engine_in(FILE *table, unsigned long long id, struct fs_engine *engine)
{
	cleanup_free char *line = NULL;
	size_t size = 0;

	*engine = (struct fs_engine){.fences = "unknown"};
	while (getline(&line, &size, table) > 0) {
		char *rest = strstr(line, " - ");
		char *type;

		if (strtoull(line, NULL, 10) != id || !rest)
			continue;
		rest[strcspn(rest, "\n")] = '\0';
		rest += strlen(" - ");
		type = strsep(&rest, " ");
		(void)strsep(&rest, " "); /* what is mounted */
		judge(type, rest ? rest : type, engine);
		return;
	}
}

void fs_engine_of(int fd, struct fs_engine *engine)
{
	FILE *table = fopen("/proc/self/mountinfo", "re");
	struct statx sx = {0};

	*engine = (struct fs_engine){.fences = "unknown"};
	if (!table)
		return;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &sx) == 0 &&
	    (sx.stx_mask & STATX_MNT_ID))
		fs_engine_in(table, sx.stx_mnt_id, engine);
	(void)fclose(table);
}
