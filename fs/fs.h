/* The structs of a running mount and the functions between the files of fs/.
 *
 * Lock order, outermost first; a thread that holds one may only take those after it:
 *
 *   follow->lock          (follow.c) which file a handle is on
 *   mount->tree_lock      (rwlock) held for reading from an open's look at inode->stale to
 *                         its handle being linked; for writing to set it, so that whoever
 *                         marks an inode stale then sees every handle that got through.
 *                         Also for reading while a name that may be governed is looked
 *                         up or moved; for writing while another file takes the place of
 *                         the one behind an inode: nobody sees the old one afterwards
 *   inode->lock           the handles and the jsonl_file of one inode
 *   handle locks          inside lib/writer.c
 *   file locks            inside lib/file.c
 *                         (while another file takes the place of a log, its file lock is
 *                         held when tree_lock is taken: nobody who holds tree_lock or
 *                         an inode's lock waits for a file's lock)
 *   mount->inodes_lock    the inode table, lookup counts, parent and name: a leaf
 *   log, stats, quarantine, the rules (policy.c): leaves, take nothing
 *
 * A reload of the rules has its turn before all of these (reload.c); no worker takes it.
 *
 * No lock is held across fuse_reply_* of an operation that the kernel may answer with
 * another request to us, and none across fuse_lowlevel_notify_* (fs_attributes_changed waits
 * for nothing in the kernel and is the exception). */
#ifndef FS_FS_H
#define FS_FS_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif

#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "config.h"
#include "io.h"
#include "policy.h"
#include "quarantine.h"
#include "log.h"
#include "stats.h"

struct fs_bypass;
struct fs_control;
struct fs_reload;
struct fs_shared;
struct fs_handle;
struct fs_seen;
struct fs_visible;	 /* shared.c: the length of a closed governed file */
struct fs_inode_private; /* inode.c: descriptor cache and file handle */

struct fs_inode {
	/* The key. One backing file under two classes is two inodes. Constant, but for the
	 * number: a file that is replaced keeps its node (fs_inode_rebind). */
	dev_t dev;
	_Atomic ino_t ino;
	enum jsonl_class class;
	mode_t type;   /* st_mode & S_IFMT */
	bool state;    /* below .jsonlfs: read-only through the mount */
	int virtual;   /* enum fs_virtual: made when read, has no backing file */

	/* Under mount->inodes_lock: */
	uint64_t nlookup;	 /* the kernel's references */
	uint64_t refs;		 /* ours: handles, children, requests under way */
	struct fs_inode *parent; /* directories and governed files (without file handles
				  * all): where it was last found */
	char *name;
	struct fs_inode *hash_next;

	pthread_mutex_t lock;
	/* Under lock: */
	struct fs_inode_private *priv;
	struct fs_shared *shared; /* governed.c: what the handles of a file share */
	struct fs_handle *handles; /* open handles, linked by ->next_of_inode */
	unsigned writers;	  /* handles among them that are open for writing */
	unsigned readers;	  /* and those that are not */
	bool stale;		  /* renamed out of its class: OPEN answers ESTALE */
	bool seized;		  /* about to be: until then it is only for writing that
				   * OPEN answers ESTALE */
	bool sealed;		  /* an O_TMPFILE that got a governed name: no more writes */
	/* The reloads of the rules as of which its class was found, and as of which the
	 * kernel was told to look again (reload.h). */
	_Atomic unsigned serial, asked;
	_Atomic int64_t begun;	  /* plain: its change time when an open emptied it, in
				   * ns; 0: not since it is in the table */
	_Atomic bool one_each;	  /* governed: the last writer closed after one append */
	struct fs_visible *visible; /* governed: as it was when closed; on the heap */
};

enum fs_virtual { FS_VIRTUAL_NONE, FS_VIRTUAL_STATUS, FS_VIRTUAL_WRITERS };

/* An open file. fi->fh holds the pointer. What an operation does is chosen once, at open,
 * by the table; plain.c, governed.c and statusdir.c each embed the struct and bring one. */
struct fs_handle_ops {
	void (*read)(fuse_req_t req, struct fs_handle *h, size_t size, off_t off,
		     struct fuse_file_info *fi);
	void (*write_buf)(fuse_req_t req, struct fs_handle *h, struct fuse_bufvec *in,
			  off_t off, struct fuse_file_info *fi);
	void (*flush)(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
	void (*release)(fuse_req_t req, struct fs_handle *h, struct fuse_file_info *fi);
	void (*fsync)(fuse_req_t req, struct fs_handle *h, int datasync,
		      struct fuse_file_info *fi);
	void (*fallocate)(fuse_req_t req, struct fs_handle *h, int mode, off_t off,
			  off_t len, struct fuse_file_info *fi);
	void (*lseek)(fuse_req_t req, struct fs_handle *h, off_t off, int whence,
		      struct fuse_file_info *fi);
	/* The descriptor that copy_file_range, ftruncate and fgetattr may use, or -1. */
	int (*fd)(struct fs_handle *h);
	/* ftruncate(2). Answered here (0 or -errno), or 1: this handle has no say, the
	 * file's rules decide. NULL: always 1. */
	int (*truncate)(fuse_req_t req, struct fs_handle *h, off_t size);
	/* True when this handle sees another length than everybody else. May be NULL. */
	bool (*size)(struct fs_handle *h, off_t *size);
	/* The session has ended without RELEASE: do what it would have done. */
	void (*abandon)(struct fs_handle *h);
};

struct fs_handle {
	const struct fs_handle_ops *ops;
	struct fs_inode *inode; /* holds a reference */
	int flags;		/* of open(2) */
	struct fs_handle *next_of_inode, **pprev_of_inode; /* inode->lock */
	struct fs_handle *next, **pprev; /* mount->handles_lock: all that are open */
};

struct fs_mount {
	struct jsonl_config config;
	struct jsonl_policy *policy;
	const struct jsonl_io *io;
	struct jsonl_io log_io; /* for logs: see payer.c */
	struct fuse_session *se;
	char *source;	  /* absolute path, for messages only */
	char *mountpoint; /* absolute path */
	int root_fd;	  /* O_PATH of the source, opened before the mount */
	int state_fd;	  /* the state directory */
	int archive_fd;	  /* STATE/archive */
	const char *state; /* where the state directory is, if not as config.state says:
			    * part of that, from the source */
	int backing_mount; /* the number of the mount that root_fd is on, or -1 */
	int transactions_fd; /* STATE/transactions */
	_Atomic bool intents_left; /* of commits: recovery is to look at each log again */
	dev_t state_dev;
	ino_t state_ino;
	uid_t uid;	  /* the daemon's; 0 may act as the callers */
	bool foreground, debug;
	_Atomic bool draining; /* the session has ended: nothing is kept for later */
	bool passthrough; /* kernel passthrough is on (negotiated) */
	const char *_Atomic passthrough_reason; /* static text: why it is off; NULL: on */
	bool killpriv;	  /* HANDLE_KILLPRIV was negotiated */
	struct timespec started; /* CLOCK_REALTIME */

	pthread_rwlock_t tree_lock;
	pthread_mutex_t inodes_lock;
	struct fs_inode **inodes; /* hash table */
	size_t inodes_size, inodes_count;
	struct fs_inode root;
	struct fs_inode_table *table; /* inode.h: descriptors and file handles */

	pthread_mutex_t handles_lock;
	struct fs_handle *handles;

	struct fs_seen *seen; /* seen.h */
	struct fs_bypass *bypass;   /* bypass.c */
	struct fs_control *control; /* control.h */
	struct fs_reload *reload;   /* reload.h */
	struct fs_idle *idle; /* idle.c: governed files that are kept open for a while */

	struct jsonl_quarantine *quarantine;
	struct fs_stats stats;
	struct fs_deferred *deferred; /* deferred.c: what must wait without a worker */
	_Atomic uint64_t pending_bytes;	    /* unfinished records in memory, whole mount */
	_Atomic uint64_t archive_bytes;
	/* Their bounds: not those of `config`, for a reload may change them. */
	_Atomic uint64_t pending_max, archive_max;
	_Atomic uint64_t log_names; /* changes of names of logs: rename, unlink */
};

static inline struct fs_mount *fs_mount_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline struct fs_handle *fs_handle_of(const struct fuse_file_info *fi)
{
	return (struct fs_handle *)(uintptr_t)fi->fh;
}

/* ---- main.c, mount.c ---- */
/* Opens the source and the state directory, builds policy, quarantine, tables. 0 or -errno
 * with a message on stderr. m->config is filled before. */
int fs_mount_init(struct fs_mount *m, const char *source) jsonl_must_check;
/* Runs ops->abandon on every handle that is left, waits for deferred work, syncs. */
void fs_mount_drain(struct fs_mount *m);
void fs_mount_deinit(struct fs_mount *m);

/* ---- ops.c ---- */
extern const struct fuse_lowlevel_ops fs_ops;

/* ---- inode.c ---- */
int fs_inode_table_init(struct fs_mount *m) jsonl_must_check;
void fs_inode_table_deinit(struct fs_mount *m);
struct fs_inode *fs_inode_of(struct fs_mount *m, fuse_ino_t ino);
fuse_ino_t fs_inode_number(const struct fs_mount *m, const struct fs_inode *i);
/* That of the node that the file behind `i` has in another class, or 0; the node may go at
 * any time: for a note to the kernel only. */
fuse_ino_t fs_inode_number_as(struct fs_mount *m, const struct fs_inode *i,
			      enum jsonl_class class);
struct fs_inode *fs_inode_ref(struct fs_mount *m, struct fs_inode *i);
void fs_inode_unref(struct fs_mount *m, struct fs_inode *i);
/* Finds or makes the inode of `name` in `parent` (O_PATH | O_NOFOLLOW under it), decides
 * its class, fills st. The caller owns one reference, to be given to the kernel with
 * fs_inode_to_kernel or dropped. 0 or -errno. */
int fs_inode_lookup(struct fs_mount *m, struct fs_inode *parent, const char *name,
		    struct fs_inode **inode, struct stat *st) jsonl_must_check;
/* Turns one of our references into a lookup count of the kernel's. */
void fs_inode_to_kernel(struct fs_mount *m, struct fs_inode *i);
void fs_inode_forget(struct fs_mount *m, struct fs_inode *i, uint64_t nlookup);
/* The inode of this backing file and class if it is in the table, with a reference; or
 * NULL. */
struct fs_inode *fs_inode_find(struct fs_mount *m, dev_t dev, ino_t ino,
			       enum jsonl_class class);
/* Opens the backing file anew: flags of open(2), O_NOFOLLOW, O_CREAT, O_TRUNC and O_EXCL are
 * removed; never blocks on a fifo, never opens a device. The descriptor is the caller's. */
int fs_inode_open(struct fs_mount *m, struct fs_inode *i, int flags) jsonl_must_check;
/* A descriptor (O_PATH at least) for *at calls and fstat, pinned until _put. */
int fs_inode_fd_get(struct fs_mount *m, struct fs_inode *i) jsonl_must_check;
void fs_inode_fd_put(struct fs_mount *m, struct fs_inode *i, int fd);
/* Path relative to the vault's root of `name` in directory `dir` (name NULL: of dir
 * itself; "" is the root). 0 or -ENAMETOOLONG. */
int fs_inode_path(struct fs_mount *m, struct fs_inode *dir, const char *name, char *buf,
		  size_t size) jsonl_must_check;
/* Where the inode was last found: its directory, with a reference, and its name, the
 * caller's to free. 0, -ENOENT when that is not known, -ENOMEM. */
int fs_inode_place(struct fs_mount *m, struct fs_inode *i, struct fs_inode **dir,
		   char **name) jsonl_must_check;
/* An inode got another name or parent: for every rename, whatever its type. */
void fs_inode_moved(struct fs_mount *m, struct fs_inode *dir, struct fs_inode *parent,
		    const char *name);
/* Enters a handle into the lists of its inode and of the mount, and counts it as a writer by
 * h->flags; takes a reference of its own to the inode. _unlink undoes all of it. */
void fs_handle_link(struct fs_mount *m, struct fs_handle *h, struct fs_inode *inode);
void fs_handle_unlink(struct fs_mount *m, struct fs_handle *h);

/* ---- caller.c: acting as the calling user ---- */
struct fs_ids {
	uid_t uid;
	gid_t gid;
};
struct fs_ids fs_caller_ids(fuse_req_t req);
struct fs_caller {
	uid_t uid; /* what the thread was before */
	gid_t gid;
	mode_t umask;
	bool masked, switched, weakened;
};
/* Takes on fsuid, fsgid, umask (raw system calls: this thread only) for what is created
 * next; a daemon that is not root changes nothing. 0 or -errno. */
int fs_caller_become(fuse_req_t req, struct fs_caller *saved) jsonl_must_check;
/* Takes on the caller's ids for a change of content of the open file `fd`, and with leaving
 * root's loses the capabilities that go with them, so that the backing file system clears
 * suid and sgid and applies quotas and reserved blocks as for the caller itself. Costs
 * nothing for root's requests. */
int fs_caller_content(fuse_req_t req, int fd, struct fs_caller *saved) jsonl_must_check;
/* Takes on the ids of `who` and keeps every capability: for what takes up room on the
 * disk and is allowed already. Some file systems keep blocks back for root, known by its
 * id. */
int fs_caller_pay(const struct fs_mount *m, const struct fs_ids *who,
		  struct fs_caller *saved) jsonl_must_check;
/* Does the file system of `fd` keep blocks back for some users? Then `near`: others have
 * less left than that, and less than 4 GiB. */
bool fs_caller_reserve(int fd, bool *near);
/* For BACKING_OPEN, whose credentials serve every later write by anybody: the caller's
 * ids, without CAP_FSETID for root's requests, too; nobody's where blocks are kept back.
 */
int fs_caller_backing(fuse_req_t req, int fd, struct fs_caller *saved) jsonl_must_check;
void fs_caller_restore(struct fs_caller *saved);
/* Is the caller of this request in the group, by its gid or by a supplementary group? */
bool fs_caller_in_group(fuse_req_t req, gid_t gid);

/* ---- meta.c ---- */
/* fuse_entry_param of an inode: attributes, timeouts; st as fs_inode_lookup filled it. */
void fs_entry_fill(struct fs_mount *m, struct fs_inode *i, const struct stat *st,
		   struct fuse_entry_param *e);
/* stat of an inode through its descriptor; for governed files as readers see them. */
int fs_inode_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st) jsonl_must_check;

/* Has the kernel ask for this file's attributes again. May be called within a request. */
void fs_attributes_changed(struct fs_mount *m, struct fs_inode *i);
/* Logs why a call with `mode` ended with rc, -EPERM, if a filter of system calls that the
 * service manager has put over the daemon lets nobody set suid and sgid. `name`: in
 * directory i; NULL: i itself. */
void fs_tell_special_bits(fuse_req_t req, const char *operation, struct fs_inode *i,
			  const char *name, mode_t mode, int rc);
/* The same for the node of another class that the file behind `i` has, if it has one. */
void fs_attributes_changed_as(struct fs_mount *m, struct fs_inode *i,
			      enum jsonl_class class);

/* ---- reply.c ---- */
/* Answers a READ with what is in the file there, less at its end. */
void fs_reply_read(fuse_req_t req, int fd, size_t size, off_t off);

/* ---- plain.c ---- */
/* Makes a handle of a plain file for a descriptor (taken over) and fills fi. 0 or -errno. */
int fs_plain_open(fuse_req_t req, struct fs_inode *i, int fd,
		  struct fuse_file_info *fi) jsonl_must_check;
/* O_TRUNC of an open, as the caller would. 0 or -errno. */
int fs_plain_truncate(fuse_req_t req, struct fs_inode *i, int fd,
		      int flags) jsonl_must_check;
/* Takes O_APPEND and O_DIRECT, which `flags` may have, off the backing descriptor. */
void fs_plain_clear_flags(int fd, int flags);

/* ---- governed.c: handles of governed files ---- */
/* Opens a governed file by the rules: O_TRUNC, append=strict, tails. `created_in`: the
 * directory when this request has just made the file (it is synced with it), else NULL. */
int fs_governed_open(fuse_req_t req, struct fs_inode *i, struct fuse_file_info *fi,
		     struct fs_inode *created_in) jsonl_must_check;
/* Corrects st_size to what readers see. Called for each stat of a governed regular file.
 * True when programs have it open to append to it, or had a moment ago, and others to read
 * it: then the kernel must not keep the answer. */
bool fs_governed_fix_stat(struct fs_mount *m, struct fs_inode *i, struct stat *st);
/* truncate or ftruncate to `size`. 0 or -errno. `quiet`: a refusal is not logged. */
int fs_governed_truncate(fuse_req_t req, struct fs_inode *i, off_t size,
			 bool quiet) jsonl_must_check;

/* ---- shared.c: what the handles of a governed file share ---- */
/* The jsonl_file of an inode, made when nobody has it open; `append`: with a descriptor
 * for appending. Pair with fs_shared_put. 0 or -errno. */
int fs_shared_get(struct fs_mount *m, struct fs_inode *i, bool append,
		  struct fs_shared **shared) jsonl_must_check;
void fs_shared_put(struct fs_mount *m, struct fs_shared *shared);
/* The mount ends, with no handle left: what is remembered because it failed to sync is
 * looked at a last time. */
void fs_shared_drain(struct fs_mount *m);
/* One more user, for a thread that goes on with the file after it has answered. */
struct fs_shared *fs_shared_ref(struct fs_shared *shared);
struct jsonl_file *fs_shared_file(struct fs_shared *shared);
/* Attributes of a governed file were changed: the next fsync makes that durable, too. */
void fs_shared_note_change(struct fs_inode *i);
/* The path of an inode relative to the vault, as it was last found, for messages and for
 * finding its directory; says so if it cannot be had. */
void fs_path_of(struct fs_mount *m, struct fs_inode *i, char *buf, size_t size);
/* What holds for a governed file by the name under which it was last found. To be kept,
 * not asked for each write. NULL: out of memory. */
const struct jsonl_settings *fs_settings_of(struct fs_mount *m, struct fs_inode *i);
/* openat(2) below the vault's root, following no symbolic link and leaving it nowhere.
 * Descriptor or -errno. */
int fs_open_beneath(struct fs_mount *m, const char *path, int flags) jsonl_must_check;
/* The same below `dir`, a descriptor of any kind. */
int fs_openat_beneath(int dir, const char *path, int flags) jsonl_must_check;
/* jsonl_file_freeze that waits up to `ms` milliseconds for a lock held outside. */
int fs_freeze(struct jsonl_file *file, unsigned ms, off_t *end) jsonl_must_check;
/* The same with jsonl_file_freeze_any. */
int fs_freeze_any(struct jsonl_file *file, unsigned ms, off_t *end) jsonl_must_check;
/* Does anybody at all, be it round the mount, have the file open for writing? 1 or 0: a
 * read lease tells (fcntl(2), F_SETLEASE); -errno: it cannot be known here. */
int fs_has_writers(int fd) jsonl_must_check;

/* ---- idle.c: governed files that are kept open for a while after the last close ---- */
int fs_idle_init(struct fs_mount *m) jsonl_must_check;
void fs_idle_deinit(struct fs_mount *m);
/* Closes what is kept open of this inode, or of all (NULL). */
void fs_idle_drop(struct fs_mount *m, struct fs_inode *i);

/* ---- deferred.c: work that must wait, or must not be done by the thread that answers ---- */
struct fs_job {
	/* -EAGAIN: call again soon; else it is done and the job has been freed. `last`: its
	 * time is up, or the mount ends. */
	int (*run)(struct fs_mount *m, struct fs_job *job, bool last);
	unsigned timeout_ms;
	/* Not to be called before this, CLOCK_MONOTONIC in milliseconds, unless `last`; 0:
	 * soon. run() may change it. */
	int64_t not_before;
	/* deferred.c's: */
	struct fs_job *next;
	int64_t deadline; /* CLOCK_MONOTONIC, milliseconds */
};
int64_t fs_now_ms(void);
/* 0 or -ENOMEM, -EAGAIN (no thread): then the caller keeps the job. */
int fs_defer(struct fs_mount *m, struct fs_job *job) jsonl_must_check;
/* Runs what is left with `last` set and stops the thread. */
void fs_defer_stop(struct fs_mount *m);
/* Has the kernel forget what a name leads to, soon. Best effort. */
void fs_invalidate_entry(struct fs_mount *m, struct fs_inode *parent, const char *name);

/* Logs and counts an operation that the rules refuse (also in shared.c). */
void fs_denied(fuse_req_t req, const char *operation, const char *path, const char *why);

/* ---- cross.c: unlink, rename and link, with every crossing between classes ---- */
void fs_op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		  const char *newname, unsigned flags);
void fs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent, const char *newname);

/* ---- statusdir.c: the .jsonlfs directory as the mount shows it ---- */
#define FS_STATE_NAME ".jsonlfs"
/* Opens or makes the state directory with quarantine/, archive/ and .gitignore. */
int fs_state_init(struct fs_mount *m) jsonl_must_check;
/* Is this name in this directory a virtual file? */
enum fs_virtual fs_state_virtual(const struct fs_mount *m, const struct fs_inode *dir,
				 const char *name);
/* Attributes of a virtual file for this caller. */
void fs_state_stat(struct fs_mount *m, const struct fs_inode *i, struct stat *st);
int fs_state_open(fuse_req_t req, struct fs_inode *i,
		  struct fuse_file_info *fi) jsonl_must_check;

#endif
