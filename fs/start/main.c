/* SPDX-License-Identifier: MIT */
/* jsonlfs: parse -> set up -> run -> exit. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/caller.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "base/look.h"
#include "base/looker.h"
#include "base/syslog.h"
#include "control/reload.h"
#include "control/socket.h"
#include "ops/table.h"
#include "rules/config.h"
#include "start/already.h"
#include "start/bypass.h"
#include "start/exit.h"
#include "start/loop.h"
#include "start/mount.h"
#include "start/mountpoint.h"
#include "start/options.h"
#include "start/privileges.h"
#include "start/remount.h"
#include "start/supervise.h"
#include "tree/mount.h"

/* "a,b" -> "a\,b", as libfuse reads it. */
static int add_option(char **list, const char *key, const char *value)
{
	cleanup_free char *option = NULL;

	if (asprintf(&option, "%s%s", key, value ? value : "") < 0)
		return FS_EXIT_SYSTEM;
	return fuse_opt_add_opt_escaped(list, option) ? FS_EXIT_SYSTEM : 0;
}

static const char *main_fsname(const struct fs_mount *m)
{
	return m->vault.config.fsname ? m->vault.config.fsname : m->vault.source;
}

/* Makes the session. A mount by root is for everybody unless its options say
 * otherwise. */
static int main_session(struct fs_mount *m, const struct fs_options *o)
{
	const struct jsonl_config *c = &m->vault.config;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	cleanup_free char *list = NULL;
	bool all =
	    c->allow_other || (m->vault.uid == 0 && !c->noallow_other && !c->allow_root);
	int r;

	r = add_option(&list, "subtype=jsonlfs", NULL);
	r = r ? r : add_option(&list, "fsname=", main_fsname(m));
	if (!r && c->default_permissions)
		r = add_option(&list, "default_permissions", NULL);
	if (!r && all)
		r = add_option(&list, "allow_other", NULL);
	if (!r && c->allow_root)
		r = add_option(&list, "allow_root", NULL);
	if (!r && c->readonly)
		r = add_option(&list, "ro", NULL);
	if (!r && o->kernel)
		r = fuse_opt_add_opt(&list, o->kernel) ? FS_EXIT_SYSTEM : 0;
	if (r || fuse_opt_add_arg(&args, "jsonlfs") || fuse_opt_add_arg(&args, "-o") ||
	    fuse_opt_add_arg(&args, list) || (m->debug && fuse_opt_add_arg(&args, "-d")))
		r = FS_EXIT_SYSTEM;
	if (!r) {
		m->tree.se = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), m);
		r = m->tree.se ? 0 : FS_EXIT_SYSTEM;
	}
	fuse_opt_free_args(&args);
	return r;
}

static int main_loop(struct fs_mount *m, bool single)
{
	if (single)
		return fuse_session_loop(m->tree.se);
	return fs_loop(m->tree.se, (unsigned)m->vault.config.max_threads);
}

static int main_attach(struct fs_mount *m, const struct fs_options *o)
{
	if (fs_supervise_again())
		return fs_remount(m, o);
	return fuse_session_mount(m->tree.se, m->vault.mountpoint) ? FS_EXIT_MOUNT : 0;
}

/* Serves until the file system is unmounted or a signal comes, then completes all that
 * is pending. */
static int main_serve(struct fs_mount *m, const struct fs_options *o, int *report,
		      int *lock)
{
	cleanup_free char *ours = NULL, *there = NULL;
	unsigned major_number, minor_number;
	int r, signal;

	r = main_attach(m, o);
	if (r)
		return r;
	ours = fs_mountpoint_device(m->vault.mountpoint);
	if (ours && sscanf(ours, "%u:%u", &major_number, &minor_number) == 2)
		m->vault.device = makedev(major_number, minor_number);
	m->deaths = fs_supervise_deaths();
	FS_SYSLOG(LOG_INFO, (uid_t)-1, "mounted", FS_STR("source", m->vault.source),
		  FS_STR("mountpoint", m->vault.mountpoint),
		  FS_STR("version", JSONLFS_VERSION));
	if (*lock >= 0)
		close(steal_fd(lock));
	fs_reload_start(m, fs_supervise_again());
	fs_control_start(m);
	fs_supervise_serving(ours ? ours : "");
	if (!fs_supervise_again())
		fs_bypass_start(m);
	/* The mount command prints the logs that were found to be bypassed. */
	if (*report >= 0)
		fs_bypass_wait(m);
	fs_syslog_mounted();
	fs_daemon_ready(report);
	m->vault.single = o->single;
	r = main_loop(m, o->single);
	signal = fs_daemon_signals_end();
	/* Pending records come first: for all that follows there is nothing to do but
	 * wait. */
	fs_daemon_drain(m, ours ? ours : "");
	fs_reload_stop(m);
	fs_bypass_stop(m);
	fs_control_stop(m);
	/* After umount -l another mount may be at the path. If the connection is severed
	 * libfuse only frees its memory. */
	there = fs_mountpoint_device(m->vault.mountpoint);
	if (!ours || !there || strcmp(ours, there) == 0 || fs_daemon_severed(m->tree.se))
		fs_remount_end(m, fs_daemon_severed(m->tree.se));
	/* A connection that is cut while it is unmounted has ended normally. */
	if (r == -ECONNABORTED &&
	    (signal || !there || strcmp(ours ? ours : "", there) != 0))
		r = 0;
	FS_SYSLOG(LOG_INFO, (uid_t)-1, "unmounted",
		  FS_STR("mountpoint", m->vault.mountpoint), FS_INT("signal", signal),
		  FS_STR("reason", r < 0 ? jsonl_error_text(r) : "session ended"));
	return r < 0 ? FS_EXIT_SYSTEM : 0;
}

/* Mounts and serves, in the process that serves. */
static int main_mount(struct fs_mount *m, const struct fs_options *o, int *report,
		      int *lock)
{
	int r;

	fs_look_start();
	r = main_session(m, o);
	if (!r)
		r = fs_daemon_signals(m);
	if (!r && fs_mount_init(m, fs_supervise_source(m)) == 0) {
		r = main_serve(m, o, report, lock);
	} else if (!r) {
		r = FS_EXIT_MOUNT;
	}
	(void)fs_daemon_signals_end();
	if (m->tree.se)
		fuse_session_destroy(m->tree.se);
	fs_mount_deinit(m);
	fs_look_end();
	return r;
}

/* Checks, before anything is done, everything that the user can have got wrong. */
static int main_prepare(struct fs_mount *m, const struct fs_options *o, int *lock,
			enum fs_mountpoint *state)
{
	int r;

	m->vault.mountpoint = fs_mountpoint_resolve(o->mountpoint);
	if (!m->vault.mountpoint) {
		fprintf(stderr, "jsonlfs: mount point %s: %s\n", o->mountpoint,
			jsonl_error_text(-errno));
		return FS_EXIT_MOUNT;
	}
	m->vault.source = fs_mountpoint_resolve(o->source);
	if (!m->vault.source) {
		fprintf(stderr, "jsonlfs: source %s: %s\n", o->source,
			jsonl_error_text(-errno));
		return FS_EXIT_MOUNT;
	}
	r = fs_mountpoint_check(m->vault.mountpoint, main_fsname(m), state);
	if (r || *state != FS_MOUNTPOINT_FREE)
		return r;
	*lock = fs_mountpoint_lock(m->vault.mountpoint);
	return fs_mountpoint_check(m->vault.mountpoint, main_fsname(m), state);
}

/* libfuse would notice it as well, but does not know what helps in a container. */
static int main_device(void)
{
	cleanup_close int device = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (device >= 0)
		return 0;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		fprintf(stderr,
			"jsonlfs: /dev/fuse is missing: modprobe fuse; in a container: "
			"--device /dev/fuse --cap-add SYS_ADMIN; in a chroot: "
			"mount --bind /dev CHROOT/dev\n");
	else
		fprintf(stderr,
			"jsonlfs: /dev/fuse cannot be opened: %s: chmod 666 /dev/fuse; "
			"in a container: --device /dev/fuse --cap-add SYS_ADMIN\n",
			jsonl_error_text(-errno));
	return FS_EXIT_MOUNT;
}

static int main_log(struct fs_mount *m)
{
	const char *where = m->foreground ? "stderr" : "syslog";
	int r;

	where = m->vault.config.log ? m->vault.config.log : where;
	r = fs_syslog_open(where, !m->foreground, m->debug);
	if (r)
		fprintf(stderr, "jsonlfs: log=%s: %s\n", where,
			r == -EINVAL ? "not a regular file" : jsonl_error_text(r));
	return r ? FS_EXIT_MOUNT : 0;
}

static int main_run(struct fs_mount *m, const struct fs_options *o)
{
	enum fs_mountpoint state = FS_MOUNTPOINT_FREE;
	cleanup_close int lock = -1, report = -1;
	int r;

	r = main_prepare(m, o, &lock, &state);
	if (r)
		return r;
	if (state == FS_MOUNTPOINT_OURS && !o->fake)
		return fs_already_mounted(m);
	r = fs_options_log(m);
	if (r || o->fake)
		return r;
	r = main_device();
	if (r)
		return r;
	if (!m->foreground)
		r = fs_daemon_fork(m->vault.mountpoint, &report);
	if (r)
		return r;
	fs_daemon_limits();
	fs_daemon_privileges(m);
	r = main_log(m);
	if (r)
		return r;
	r = fs_reload_init(m);
	if (r) {
		fprintf(stderr, "jsonlfs: %s: %s\n", m->vault.config.path,
			jsonl_error_text(r));
		return FS_EXIT_SYSTEM;
	}
	if (fs_remount_allowed(m, o))
		r = fs_supervise(m, &report, &lock);
	return r ? r : main_mount(m, o, &report, &lock);
}

static void main_version(void)
{
	printf("jsonlfs %s (libfuse %s)\n", JSONLFS_VERSION, fuse_pkgversion());
}

int main(int argc, char **argv)
{
	static struct fs_mount m; /* zeroed */
	struct fs_options options = {0};
	int r;

	if (argc == 1 && strcmp(argv[0], FS_LOOKER_ARGV0) == 0)
		fs_looker_main();
	fs_daemon_descriptors();
	m.vault.uid = geteuid();
	fs_caller_init(m.vault.uid);
	r = fs_options_parse(argc, argv, &options, &m);
	if (!r && options.task == FS_TASK_HELP)
		fs_options_help(stdout);
	else if (!r && options.task == FS_TASK_VERSION)
		main_version();
	else if (!r)
		r = main_run(&m, &options);
	fs_options_deinit(&options);
	fs_reload_deinit(&m);
	jsonl_config_deinit(&m.vault.config);
	free(m.vault.source);
	free(m.vault.mountpoint);
	return r;
}
