/* jsonlfs: parse -> set up -> run -> exit. */
#include "control.h"
#include "reload.h"
#include "start.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

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
	return m->config.fsname ? m->config.fsname : m->source;
}

/* A mount by root is for everybody unless it says otherwise. */
static int main_session(struct fs_mount *m, const struct fs_options *o)
{
	const struct jsonl_config *c = &m->config;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	cleanup_free char *list = NULL;
	bool all = c->allow_other || (m->uid == 0 && !c->noallow_other && !c->allow_root);
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
		m->se = fuse_session_new(&args, &fs_ops, sizeof(fs_ops), m);
		r = m->se ? 0 : FS_EXIT_SYSTEM;
	}
	fuse_opt_free_args(&args);
	return r;
}

static int main_loop(struct fs_mount *m, bool single)
{
	struct fuse_loop_config *config;
	int r;

	if (single)
		return fuse_session_loop(m->se);
	config = fuse_loop_cfg_create();
	if (!config)
		return -ENOMEM;
	/* Idle threads stay: ending and starting them again costs more than they do. */
	fuse_loop_cfg_set_clone_fd(config, 0);
	fuse_loop_cfg_set_max_threads(config, (unsigned)m->config.max_threads);
	r = fuse_session_loop_mt(m->se, config);
	fuse_loop_cfg_destroy(config);
	return r;
}

static int main_attach(struct fs_mount *m, const struct fs_options *o)
{
	if (fs_supervise_again())
		return fs_remount(m, o);
	return fuse_session_mount(m->se, m->mountpoint) ? FS_EXIT_MOUNT : 0;
}

/* Serves until the file system is unmounted or a signal comes, then lets nothing pending
 * be lost. */
static int main_serve(struct fs_mount *m, const struct fs_options *o, int *report,
		      int *lock)
{
	cleanup_free char *ours = NULL, *there = NULL;
	int r, signal;

	r = main_attach(m, o);
	if (r)
		return r;
	ours = fs_mountpoint_device(m->mountpoint);
	FS_LOG(LOG_INFO, (uid_t)-1, "mounted", FS_STR("source", m->source),
	       FS_STR("mountpoint", m->mountpoint), FS_STR("version", JSONLFS_VERSION));
	if (*lock >= 0)
		close(steal_fd(lock));
	fs_reload_start(m, fs_supervise_again());
	fs_control_start(m);
	fs_supervise_serving(ours ? ours : "");
	fs_process_ready(report);
	if (!fs_supervise_again())
		fs_bypass_start(m, ours ? ours : "");
	r = main_loop(m, o->single);
	signal = fs_process_signals_end();
	fs_reload_stop(m);
	fs_bypass_stop(m);
	fs_control_stop(m);
	fs_process_drain(m, ours ? ours : "");
	/* After umount -l the path may carry the mount of somebody else; of a connection
	 * that is severed libfuse only frees what it holds. */
	there = fs_mountpoint_device(m->mountpoint);
	if (!ours || !there || strcmp(ours, there) == 0 || fs_process_severed(m->se))
		fs_remount_end(m, fs_process_severed(m->se));
	/* Cut off while it was being unmounted: that is an end like any other. */
	if (r == -ECONNABORTED &&
	    (signal || !there || strcmp(ours ? ours : "", there) != 0))
		r = 0;
	FS_LOG(LOG_INFO, (uid_t)-1, "unmounted", FS_STR("mountpoint", m->mountpoint),
	       FS_INT("signal", signal),
	       FS_STR("reason", r < 0 ? jsonl_error_text(r) : "session ended"));
	return r < 0 ? FS_EXIT_SYSTEM : 0;
}

/* In the process that serves. */
static int main_mount(struct fs_mount *m, const struct fs_options *o, int *report,
		      int *lock)
{
	int r;

	r = main_session(m, o);
	if (!r)
		r = fs_process_signals(m);
	if (!r && fs_mount_init(m, fs_supervise_source(m)) == 0) {
		r = main_serve(m, o, report, lock);
	} else if (!r) {
		r = FS_EXIT_MOUNT;
	}
	(void)fs_process_signals_end();
	if (m->se)
		fuse_session_destroy(m->se);
	fs_mount_deinit(m);
	return r;
}

/* Everything that a person can have got wrong is found here, before anything is done. */
static int main_prepare(struct fs_mount *m, const struct fs_options *o, int *lock,
			enum fs_mountpoint *state)
{
	int r;

	m->mountpoint = fs_mountpoint_resolve(o->mountpoint);
	if (!m->mountpoint) {
		fprintf(stderr, "jsonlfs: mount point %s: %s\n", o->mountpoint,
			jsonl_error_text(-errno));
		return FS_EXIT_MOUNT;
	}
	m->source = fs_mountpoint_resolve(o->source);
	if (!m->source) {
		fprintf(stderr, "jsonlfs: source %s: %s\n", o->source,
			jsonl_error_text(-errno));
		return FS_EXIT_MOUNT;
	}
	r = fs_mountpoint_check(m->mountpoint, main_fsname(m), state);
	if (r || *state != FS_MOUNTPOINT_FREE)
		return r;
	*lock = fs_mountpoint_lock(m->mountpoint);
	return fs_mountpoint_check(m->mountpoint, main_fsname(m), state);
}

static int main_run(struct fs_mount *m, const struct fs_options *o)
{
	enum fs_mountpoint state = FS_MOUNTPOINT_FREE;
	cleanup_close int lock = -1, report = -1;
	int r;

	r = main_prepare(m, o, &lock, &state);
	if (r)
		return r;
	if (state == FS_MOUNTPOINT_OURS) {
		fprintf(stderr, "jsonlfs: %s is already mounted on %s\n", m->source,
			m->mountpoint);
		return 0;
	}
	if (o->fake)
		return 0;
	if (!m->foreground)
		r = fs_process_daemonize(m->mountpoint, &report);
	if (r)
		return r;
	fs_process_limits();
	fs_process_privileges(m);
	fs_log_open(m->foreground, m->debug);
	r = fs_reload_init(m);
	if (r) {
		fprintf(stderr, "jsonlfs: %s: %s\n", m->config.path, jsonl_error_text(r));
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

	fs_process_descriptors();
	m.uid = geteuid();
	r = fs_options_parse(argc, argv, &options, &m);
	if (!r && options.task == FS_TASK_HELP)
		fs_options_help(stdout);
	else if (!r && options.task == FS_TASK_VERSION)
		main_version();
	else if (!r)
		r = main_run(&m, &options);
	fs_options_deinit(&options);
	fs_reload_deinit(&m);
	jsonl_config_deinit(&m.config);
	free(m.source);
	free(m.mountpoint);
	return r;
}
