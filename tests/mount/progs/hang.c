/* SPDX-License-Identifier: MIT */
/* An ordinary user's process that cannot be looked at, because a file system of his own never
 * answers: hang HOW DIR [LOG | SOCKET]. It says "ready" when it hangs, and stays until it is
 * killed. DIR is an empty directory for that file system, in a mount namespace of its own.
 *
 * memory  LOG     its memory is locked by an mmap(2) that waits for a page; then one record is
 *                 appended to LOG ("written")
 * epoll   LOG     an epoll descriptor of its is locked by an epoll_wait(2) that waits for a
 *                 page; one record is appended, and a duplicate of that descriptor is closed
 *                 ("written")
 * passed  SOCKET  a descriptor whose close(2) never ends is sent to a control socket as the
 *                 new content of a log ("written") */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096
#define SIZE (16 * PAGE)

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

/* ---- the file system that never answers ---- */

static void answer(int dev, const struct fuse_in_header *in, int error, void *out, size_t len)
{
	char buf[512];
	struct fuse_out_header h = {
	    .len = (unsigned)(sizeof(h) + len), .error = error, .unique = in->unique};

	memcpy(buf, &h, sizeof(h));
	memcpy(buf + sizeof(h), out, len);
	if (write(dev, buf, sizeof(h) + len) < 0 && errno != ENOENT)
		_exit(0);
}

static struct fuse_attr attributes(unsigned long long node)
{
	return (struct fuse_attr){.ino = node,
				  .size = SIZE,
				  .mode = node == 1 ? S_IFDIR | 0777 : S_IFREG | 0666,
				  .nlink = 1,
				  .uid = getuid(),
				  .gid = getgid()};
}

static void serve(int dev)
{
	static char buf[1 << 17];
	const struct fuse_in_header *in = (void *)buf;
	unsigned opens = 0;

	alarm(120); /* whatever becomes of the test */
	while (read(dev, buf, sizeof(buf)) > 0) {
		struct fuse_init_out init = {.major = FUSE_KERNEL_VERSION,
					     .minor = FUSE_KERNEL_MINOR_VERSION,
					     .max_write = 65536};
		struct fuse_entry_out entry = {
		    .nodeid = 2, .entry_valid = 1000, .attr_valid = 1000, .attr = attributes(2)};
		struct fuse_attr_out attr = {.attr_valid = 1000, .attr = attributes(in->nodeid)};
		struct fuse_open_out open = {0};

		switch (in->opcode) {
		case FUSE_INIT:
			answer(dev, in, 0, &init, sizeof(init));
			break;
		case FUSE_LOOKUP:
			answer(dev, in, 0, &entry, sizeof(entry));
			break;
		case FUSE_GETATTR:
			answer(dev, in, 0, &attr, sizeof(attr));
			break;
		case FUSE_OPEN:
			open.open_flags = opens++ ? FOPEN_DIRECT_IO : 0;
			answer(dev, in, 0, &open, sizeof(open));
			break;
		case FUSE_READ:
		case FUSE_FLUSH:
		case FUSE_STATFS:
		case FUSE_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			answer(dev, in, -ENOSYS, NULL, 0);
		}
	}
	_exit(0);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static void mount_own(const char *dir)
{
	const unsigned uid = getuid(), gid = getgid();
	char text[128];
	int dev;

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
		die("unshare");
	put("/proc/self/setgroups", "deny");
	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	put("/proc/self/uid_map", text);
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	put("/proc/self/gid_map", text);
	dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		die("/dev/fuse");
	snprintf(text, sizeof(text), "fd=%d,rootmode=40000,user_id=%u,group_id=%u", dev, uid, gid);
	if (mount("hang", dir, "fuse", MS_NOSUID | MS_NODEV, text))
		die("mount");
	if (fork() == 0)
		serve(dev);
	close(dev);
}

/* ---- what waits for it ---- */

static int cached, direct, epoll;
static void *page;

static void *reads(void *arg)
{
	char byte;

	(void)arg;
	if (pread(cached, &byte, 1, 0) < 0)
		die("pread");
	return NULL;
}

/* With direct I/O the pages are thrown away first, and one is being read for ever. */
static void *maps(void *arg)
{
	(void)arg;
	mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, direct, 0);
	return NULL;
}

static void *waits(void *arg)
{
	(void)arg;
	epoll_wait(epoll, page, 1, -1);
	return NULL;
}

static void thread(void *(*run)(void *))
{
	pthread_t t;

	if (pthread_create(&t, NULL, run, NULL))
		die("pthread_create");
	usleep(200000);
}

static void say(const char *text)
{
	if (write(1, text, strlen(text)) < 0)
		_exit(1);
}

static void hang_memory(const char *file)
{
	cached = open(file, O_RDONLY);
	direct = open(file, O_RDONLY);
	if (cached < 0 || direct < 0)
		die(file);
	thread(reads);
	thread(maps);
}

static void hang_epoll(const char *file)
{
	struct epoll_event event = {.events = EPOLLIN};
	int ends[2];

	cached = open(file, O_RDWR);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, cached, 0);
	if (page == MAP_FAILED)
		die(file);
	epoll = epoll_create1(0);
	if (epoll < 0 || pipe(ends) || write(ends[1], "x", 1) != 1 ||
	    epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event))
		die("epoll");
	thread(waits);
}

static void pass(const char *file, const char *socket_path)
{
	static const char text[] = "{\"verb\": \"replace\", \"path\": \"own.jsonl\"}";
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)text, .iov_len = sizeof(text) - 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int fd = open(file, O_RDONLY), s = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", socket_path);
	if (fd < 0 || s < 0 || connect(s, (struct sockaddr *)&a, sizeof(a)))
		die("connect");
	say("ready\n");
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (sendmsg(s, &msg, 0) < 0)
		die("sendmsg");
	say("written\n");
}

static void append(const char *log, int fd, int again)
{
	if (write(fd, "1\n", 2) != 2)
		die(log);
	if (again >= 0 && close(again))
		die("close");
	say("written\n");
}

int main(int argc, char **argv)
{
	int log = -1, again = -1;
	char file[4096];

	if (argc != 4)
		return 2;
	if (strcmp(argv[1], "passed") != 0) {
		log = open(argv[3], O_WRONLY | O_APPEND | O_CREAT, 0666);
		if (log < 0)
			die(argv[3]);
	}
	if (strcmp(argv[1], "epoll") == 0)
		again = dup(log);
	mount_own(argv[2]);
	snprintf(file, sizeof(file), "%s/f", argv[2]);
	if (strcmp(argv[1], "memory") == 0)
		hang_memory(file);
	else if (strcmp(argv[1], "epoll") == 0)
		hang_epoll(file);
	else
		pass(file, argv[3]);
	if (log >= 0) {
		say("ready\n");
		append(argv[3], log, again);
	}
	for (;;)
		pause();
}
