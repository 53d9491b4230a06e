/* SPDX-License-Identifier: MIT */
#include "ops/leased.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/stamp.h"
#include "base/fuse.h"
#include "tree/mount.h"

#define LEASED_POLL_MS 20
#define LEASED_MAX_MS  60000 /* lease-break-time is 45 s unless somebody changed it */
#define LEASED_QUEUE   64    /* requests of one user that wait */

static int leased_run(struct fs_job *job, bool last)
{
	struct fs_leased *l = (struct fs_leased *)job;
	int rc = fuse_req_interrupted(l->req) ? -EINTR : l->attempt(l);

	if (rc == -EWOULDBLOCK && !last) {
		job->not_before = jsonl_now_ms() + LEASED_POLL_MS;
		return -EAGAIN;
	}
	l->answer(l, rc);
	free(l);
	return 0;
}

bool fs_leased_park(const struct fs_leased *proto)
{
	struct fs_vault *v = fs_vault_of(proto->req);
	const uid_t uid = fuse_req_ctx(proto->req)->uid;
	struct fs_leased *l;

	if (fs_defer_count(v, uid) >= LEASED_QUEUE || !(l = malloc(sizeof(*l))))
		return false;
	*l = *proto;
	l->job = (struct fs_job){.run = leased_run,
				 .uid = uid,
				 .timeout_ms = LEASED_MAX_MS,
				 .not_before = jsonl_now_ms() + LEASED_POLL_MS};
	if (fs_defer(v, &l->job) == 0)
		return true;
	free(l);
	return false;
}
