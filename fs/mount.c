/* What a mount consists of, from opening the source to the last record of the last
 * handle. */
#include "seen.h"
#include "shared.h"
#include "start.h"
#include "transaction.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int init_fail(const struct fs_mount *m, const char *what, int r)
{
	fprintf(stderr, "jsonlfs: %s: %s: %s\n", m->source, what, jsonl_error_text(r));
	return r;
}

static int init_policy(struct fs_mount *m)
{
	cleanup_free char *error = NULL;
	int r = jsonl_policy_new(&m->config, &m->policy, &error);

	if (r)
		fprintf(stderr, "jsonlfs: %s\n", error ? error : jsonl_error_text(r));
	return r;
}

static int backing_mount(const struct fs_mount *m)
{
	struct statx sx;

	if (statx(m->root_fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID,
		  &sx) ||
	    !(sx.stx_mask & STATX_MNT_ID))
		return -1;
	return (int)sx.stx_mnt_id;
}

int fs_mount_init(struct fs_mount *m, const char *source)
{
	int r;

	m->io = &jsonl_io_system;
	fs_payer_io(&m->log_io);
	m->state_fd = m->archive_fd = m->transactions_fd = -1;
	clock_gettime(CLOCK_REALTIME, &m->started);
	pthread_rwlock_init(&m->tree_lock, NULL);
	pthread_mutex_init(&m->inodes_lock, NULL);
	pthread_mutex_init(&m->handles_lock, NULL);
	/* Before the mount: afterwards the same path may lead into it. */
	m->root_fd = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (m->root_fd < 0)
		return init_fail(m, "cannot open it", -errno);
	m->backing_mount = backing_mount(m);
	r = init_policy(m);
	if (r)
		return r;
	r = fs_stats_init(&m->stats);
	if (r)
		return init_fail(m, "counters", r);
	r = fs_state_init(m);
	if (r)
		return init_fail(m, "state directory " FS_STATE_NAME, r);
	/* Read-only, and never written by us: nothing will need setting aside. */
	if (m->state_fd >= 0)
		r = jsonl_quarantine_new(m->io, m->state_fd, m->config.quarantine_max,
					 &m->quarantine);
	if (r)
		return init_fail(m, "quarantine", r);
	r = fs_inode_table_init(m);
	if (!r)
		r = fs_idle_init(m);
	if (!r)
		r = fs_seen_init(m);
	if (r)
		return init_fail(m, "inode table", r);
	fs_transaction_recover(m);
	return 0;
}

void fs_mount_drain(struct fs_mount *m)
{
	m->draining = true;
	/* First what waits for a lock held outside: it uses handles. */
	fs_defer_stop(m);
	for (;;) {
		struct fs_handle *h;

		/* abandon() unlinks the handle, which takes the lock itself. Nobody else
		 * takes handles away any more: the session has ended. */
		pthread_mutex_lock(&m->handles_lock);
		h = m->handles;
		pthread_mutex_unlock(&m->handles_lock);
		if (!h)
			break;
		h->ops->abandon(h);
	}
	fs_idle_drop(m, NULL);
	fs_shared_drain(m);
	fs_defer_stop(m);
}

void fs_mount_deinit(struct fs_mount *m)
{
	fs_idle_deinit(m);
	fs_seen_deinit(m);
	if (m->inodes)
		fs_inode_table_deinit(m);
	jsonl_quarantine_free(m->quarantine);
	fs_stats_deinit(&m->stats);
	jsonl_policy_free(m->policy);
	if (m->archive_fd > 0)
		close(m->archive_fd);
	if (m->transactions_fd > 0)
		close(m->transactions_fd);
	if (m->state_fd > 0)
		close(m->state_fd);
	if (m->root_fd > 0)
		close(m->root_fd);
}
