/* SPDX-License-Identifier: MIT */
/* Preloaded: the filter of system calls that systemd's RestrictSUIDSGID= puts over a service: no
 * suid and no sgid in any mode (EPERM), and no openat2 (ENOSYS), whose mode a filter cannot
 * see. With SXID_WALK no file handles either, and few descriptors, so that files are
 * found by their paths. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define LOAD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW	      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* Of that call, argument n has one of the bits: EPERM. */
#define MODE_IN(call, n)                                                                  \
	LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 4), LOAD(args[n]),       \
	    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1), ANSWER(EPERM), \
	    ALLOW
#define REFUSE(call, error) \
	LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), ANSWER(error)
/* Only with O_CREAT is there a mode. */
#define CREATE_IN(call, flags, n)                                                         \
	LOAD(nr), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 6), LOAD(args[flags]),   \
	    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT, 0, 3), LOAD(args[n]),           \
	    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, S_ISUID | S_ISGID, 0, 1), ANSWER(EPERM), \
	    ALLOW

static struct sock_filter filter[] = {
#ifdef SYS_chmod
    MODE_IN(SYS_chmod, 1),
    MODE_IN(SYS_mkdir, 1),
    MODE_IN(SYS_mknod, 1),
    CREATE_IN(SYS_open, 1, 2),
#endif
    MODE_IN(SYS_fchmod, 1),
    MODE_IN(SYS_fchmodat, 2),
    MODE_IN(SYS_mkdirat, 2),
    MODE_IN(SYS_mknodat, 2),
    CREATE_IN(SYS_openat, 2, 3),
    REFUSE(SYS_openat2, ENOSYS),
    ALLOW,
};
static struct sock_filter walk[] = {
    REFUSE(SYS_name_to_handle_at, EPERM),
    REFUSE(SYS_open_by_handle_at, EPERM),
    ALLOW,
};

static void put_on(struct sock_filter *program, size_t size)
{
	struct sock_fprog all = {.len = size / sizeof(*program), .filter = program};

	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all)) {
		perror("the filter of the test");
		exit(99);
	}
}

__attribute__((constructor)) static void begin(void)
{
	const struct rlimit few = {100, 100};

	if (getenv("SXID_WALK")) {
		put_on(walk, sizeof(walk));
		setrlimit(RLIMIT_NOFILE, &few);
	}
	put_on(filter, sizeof(filter));
}
