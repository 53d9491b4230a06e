/* SPDX-License-Identifier: MIT */
/* What /proc tells of a process: whose thread it is, which descriptors it has left, and
 * whether a signal is what ends it. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "base/process.h"

/* Returns its argument, or NULL when it could not be found out: only main() counts
 * checks. */
static void *of_a_thread(void *arg)
{
	return fs_process_identify(gettid(), arg) ? arg : NULL;
}

static void test_identify(void)
{
	struct fs_process here, there;
	pthread_t thread;
	void *found = NULL;

	CHECK(fs_process_identify(getpid(), &here));
	CHECK(here.tgid == getpid() && here.start > 0);
	CHECK(pthread_create(&thread, NULL, of_a_thread, &there) == 0);
	CHECK(pthread_join(thread, &found) == 0 && found == &there);
	CHECK(there.tgid == here.tgid && there.start == here.start);
	CHECK(!fs_process_identify(0, &here) && !fs_process_identify(-1, &here));
}

static bool holds(pid_t pid, ino_t ino, int flags, dev_t device)
{
	const struct fs_closing_question q = {.thread = pid,
					      .pid = pid,
					      .numbers = {1, 0, ino},
					      .flags = flags,
					      .device = device};

	return fs_process_closing(&q) == FS_CLOSING_MORE;
}

static void test_holds(void)
{
	char path[] = "test-lastclose-XXXXXX";
	int fd = mkstemp(path), other;
	struct stat st;

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	CHECK(holds(getpid(), st.st_ino, O_RDWR, 0));
	CHECK(holds(getpid(), st.st_ino, O_RDWR, st.st_dev));
	CHECK(!holds(getpid(), st.st_ino, O_RDWR | O_APPEND, 0));
	CHECK(!holds(getpid(), st.st_ino, O_RDWR, st.st_dev + 1));
	CHECK(!holds(getpid(), st.st_ino, O_WRONLY, 0));
	CHECK(!holds(getpid(), st.st_ino + 1, O_RDWR, 0));
	other = dup(fd);
	close(fd);
	CHECK(holds(getpid(), st.st_ino, O_RDWR, 0));
	close(other);
	CHECK(!holds(getpid(), st.st_ino, O_RDWR, 0));
	CHECK(!holds(0, st.st_ino, O_RDWR, 0));
	CHECK(unlink(path) == 0);
}

static enum fs_closing closing_of(pid_t pid, ino_t ino)
{
	const struct fs_closing_question q = {
	    .thread = pid, .pid = pid, .numbers = {ino}, .flags = O_RDWR};

	return fs_process_closing(&q);
}

/* What it answers of this process, asked by another user's, which may not look. */
static enum fs_closing closing_hidden(ino_t ino)
{
	pid_t parent = getpid(), pid = fork();
	int status = 0;

	if (pid == 0)
		_exit(setresuid(65534, 65534, 65534) ? 9 : (int)closing_of(parent, ino));
	waitpid(pid, &status, 0);
	return (enum fs_closing)WEXITSTATUS(status);
}

static void test_closing(void)
{
	FILE *file = tmpfile();
	struct stat st;

	CHECK(file && fstat(fileno(file), &st) == 0);
	CHECK(closing_of(getpid(), st.st_ino) == FS_CLOSING_MORE);
	CHECK(closing_of(getpid(), st.st_ino + 1) == FS_CLOSING_LAST);
	if (getuid() == 0)
		CHECK(closing_hidden(st.st_ino) == FS_CLOSING_HIDDEN);
	fclose(file);
}

/* The directory takes the last descriptor that this process may have. */
static void test_no_descriptor_left(void)
{
	FILE *file = tmpfile();
	int next = dup(0);
	struct rlimit limit, little;
	enum fs_closing how;
	struct stat st;

	CHECK(file && next >= 0 && fstat(fileno(file), &st) == 0);
	close(next);
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	little = limit;
	little.rlim_cur = (rlim_t)next + 1;
	CHECK(setrlimit(RLIMIT_NOFILE, &little) == 0);
	how = closing_of(getpid(), st.st_ino);
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	CHECK(how == FS_CLOSING_HIDDEN, "%d", (int)how);
	fclose(file);
}

static void *exits(void *arg)
{
	_exit(*(int *)arg);
}

/* Its other thread ends it: the kernel kills the first one for that. */
static void exit_by_thread(int code)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, exits, &code))
		_exit(9);
	while (1)
		pause();
}

/* A child that has ended, by a signal or because a thread called exit, stays in /proc
 * until it is waited for. */
static bool killed_after(int sig, bool threaded)
{
	siginfo_t info;
	bool killed;
	pid_t pid = fork();

	if (pid == 0) {
		if (threaded)
			exit_by_thread(0);
		if (sig)
			raise(sig);
		_exit(0);
	}
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	CHECK(info.si_status == sig);
	killed = closing_of(pid, 1) == FS_CLOSING_KILLED;
	waitpid(pid, NULL, 0);
	return killed;
}

int main(void)
{
	test_identify();
	test_holds();
	test_closing();
	test_no_descriptor_left();
	CHECK(!killed_after(0, false) && !killed_after(0, true));
	CHECK(killed_after(SIGKILL, false) && killed_after(SIGTERM, false));
	return check_done();
}
