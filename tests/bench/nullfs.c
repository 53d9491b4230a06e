/* A mount that does nothing: every name is an empty file that takes every write, answers
 * every flush, and stores nothing. What a request costs here is the round trip itself,
 * the lower bound of what any file system of this kind can reach.
 *
 *   nullfs MOUNTPOINT        serves in the foreground until it is unmounted */
#define FUSE_USE_VERSION 314

#include <errno.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static struct stat null_stat(fuse_ino_t ino)
{
	struct stat st = {.st_ino = ino, .st_nlink = 1};

	st.st_mode = ino == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
	return st;
}

static struct fuse_entry_param null_entry(void)
{
	return (struct fuse_entry_param){
	    .ino = 2, .attr = null_stat(2), .attr_timeout = 1, .entry_timeout = 1};
}

static void null_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = null_entry();

	fuse_reply_entry(req, &e);
}

static void null_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = null_stat(ino);

	fuse_reply_attr(req, &st, 1);
}

static void null_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fi->direct_io = 1;
	fuse_reply_open(req, fi);
}

static void null_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size,
		       off_t off, struct fuse_file_info *fi)
{
	fuse_reply_write(req, size);
}

static void null_ok(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_reply_err(req, 0);
}

/* The same as jsonlfs: no question for security.capability before each write. */
static void null_init(void *userdata, struct fuse_conn_info *conn)
{
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	conn->want |= conn->capable & FUSE_CAP_HANDLE_KILLPRIV_V2;
#endif
}

static const struct fuse_lowlevel_ops null_ops = {
    .init = null_init,
    .lookup = null_lookup,
    .getattr = null_getattr,
    .open = null_open,
    .write = null_write,
    .flush = null_ok,
    .release = null_ok,
};

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_loop_config *config;
	struct fuse_session *se;
	int r = 1;

	if (argc != 2) {
		fprintf(stderr, "usage: nullfs MOUNTPOINT\n");
		return 2;
	}
	if (fuse_opt_add_arg(&args, "nullfs") || fuse_opt_add_arg(&args, "-o") ||
	    fuse_opt_add_arg(&args, "fsname=nullfs,subtype=nullfs,default_permissions"))
		return 1;
	se = fuse_session_new(&args, &null_ops, sizeof(null_ops), NULL);
	fuse_opt_free_args(&args);
	if (!se)
		return 1;
	config = fuse_loop_cfg_create();
	if (config && !fuse_set_signal_handlers(se)) {
		if (!fuse_session_mount(se, argv[1])) {
			r = fuse_session_loop_mt(se, config) < 0;
			fuse_session_unmount(se);
		}
		fuse_remove_signal_handlers(se);
	}
	fuse_loop_cfg_destroy(config);
	fuse_session_destroy(se);
	return r;
}
