/* SPDX-License-Identifier: MIT */
/* Sets up a mount, from opening the source, and takes it down, to the last record of the
 * last handle. */
#include "start/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/io.h"
#include "base/payer.h"
#include "base/seen.h"
#include "base/stats.h"
#include "log/idle.h"
#include "log/openlog.h"
#include "names/classes.h"
#include "quarantine/quarantine.h"
#include "record/known.h"
#include "rules/policy.h"
#include "start/recover.h"
#include "tree/handles.h"
#include "tree/mount.h"
#include "vault/archive.h"
#include "vault/deferred.h"
#include "vault/hosts.h"
#include "vault/statedir.h"

static int init_fail(const struct fs_mount *m, const char *what, int r)
{
	fprintf(stderr, "jsonlfs: %s: %s: %s\n", m->vault.source, what,
		jsonl_error_text(r));
	return r;
}

static int init_policy(struct fs_mount *m)
{
	cleanup_free char *error = NULL;
	int r = jsonl_policy_new(&m->vault.config, &m->vault.policy, &error);

	if (r)
		fprintf(stderr, "jsonlfs: %s\n", error ? error : jsonl_error_text(r));
	return r;
}

int fs_mount_init(struct fs_mount *m, const char *source)
{
	int r;

	m->tree.classes = fs_classes;
	m->vault.io = &jsonl_io_system;
	m->vault.state_fd = m->vault.archive_fd = -1;
	m->vault.common_fd = m->vault.daemon_fd = -1;
	clock_gettime(CLOCK_REALTIME, &m->vault.started);
	/* Before the mount: afterwards the same path may lead into it. */
	m->vault.root_fd = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (m->vault.root_fd < 0)
		return init_fail(m, "cannot open it", -errno);
	r = init_policy(m);
	if (r)
		return r;
	r = fs_stats_init(&m->vault.stats, m->vault.uid);
	if (r)
		return init_fail(m, "counters", r);
	r = fs_statedir_init(&m->vault);
	if (r)
		return init_fail(m, "state directory " FS_STATE_NAME, r);
	fs_engine_of(m->vault.root_fd, &m->vault.engine);
	r = fs_hosts_join(&m->vault);
	if (r)
		return r;
	if (m->vault.remote)
		jsonl_policy_longest(m->vault.policy, m->vault.engine.longest);
	if (m->vault.remote)
		m->vault.io = &jsonl_io_remote;
	fs_payer_io(&m->vault.log_io, m->vault.io);
	r = fs_archive_init(&m->vault, fs_inode_is_written);
	if (r)
		return init_fail(m, "archive", r);
	/* A read-only vault that we have never written to: nothing will be set aside. */
	if (m->vault.state_fd >= 0)
		r = jsonl_quarantine_new(m->vault.io, m->vault.state_fd,
					 m->vault.config.quarantine_max,
					 &m->vault.quarantine);
	if (r)
		return init_fail(m, "quarantine", r);
	if (m->vault.quarantine && m->vault.remote)
		jsonl_quarantine_share(m->vault.quarantine);
	r = fs_tree_init(m);
	if (!r)
		r = fs_idle_init(m);
	m->seen = r ? NULL : fs_seen_new();
	if (!r && !m->seen)
		r = -ENOMEM;
	if (!r)
		r = jsonl_known_new(&m->known);
	if (r)
		return init_fail(m, "inode table", r);
	fs_recover(m);
	return 0;
}

/* Closes files that are open without a handle. */
static void mount_settle(struct fs_mount *m)
{
	fs_idle_drop(m, NULL);
	fs_openlog_drain(m);
	while (fs_defer_stop(&m->vault))
		continue;
}

void fs_mount_drain(struct fs_mount *m)
{
	m->vault.draining = true;
	/* Waiting for locks held outside comes first, because it uses handles. */
	while (fs_defer_stop(&m->vault))
		continue;
	for (;;) {
		struct fs_handle *h;

		/* abandon() unlinks the handle under the list's lock, which is therefore
		 * not held. Nobody else removes handles: the session has ended. */
		h = fs_handles_first(m);
		if (!h)
			break;
		h->ops->abandon(h);
	}
	mount_settle(m);
}

void fs_mount_deinit(struct fs_mount *m)
{
	/* A client of the control socket may have been the last to use a log. */
	if (m->seen) /* made last by _init, so the rest is there */
		mount_settle(m);
	fs_idle_deinit(m);
	fs_seen_free(m->seen);
	jsonl_known_free(m->known);
	fs_tree_deinit(m);
	fs_archive_deinit(&m->vault);
	jsonl_quarantine_free(m->vault.quarantine);
	fs_stats_deinit(&m->vault.stats);
	jsonl_policy_free(m->vault.policy);
	fs_hosts_leave(&m->vault);
	fs_statedir_leave(&m->vault);
	if (m->vault.archive_fd > 0)
		close(m->vault.archive_fd);
	if (m->vault.daemon_fd > 0)
		close(m->vault.daemon_fd);
	if (m->vault.common_fd > 0)
		close(m->vault.common_fd);
	if (m->vault.state_fd > 0)
		close(m->vault.state_fd);
	if (m->vault.root_fd > 0)
		close(m->vault.root_fd);
}
