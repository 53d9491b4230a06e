/* SPDX-License-Identifier: MIT */
/* Which program writes: executables of many names are started with many command lines
 * (they are this very program, which then only waits) and must be shown with their
 * script, and with nothing else of their arguments. */
#include "base/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define ARGS 9

static char dir[] = "/tmp/test_program.XXXXXX";

static const struct {
	const char *exe;
	const char *args[ARGS];
	const char *want; /* behind the executable; %: the directory it runs in */
} table[] = {
    /* No interpreter: no argument at all. */
    {"tee", {"-a", "secret"}, ""},
    {"mypython", {"secret.py"}, ""},
    {"pythonette", {"secret.py"}, ""},
    {"shred", {"secret"}, ""},
    {"gawk", {"secret code", "f"}, ""},

    {"python3.11", {"a.py", "--password=secret"}, " %/a.py"},
    {"python3", {"./b/a.py", "secret"}, " %/b/a.py"},
    {"python", {"/srv/a.py", "secret"}, " /srv/a.py"},
    {"python3.13t", {"a.py"}, " %/a.py"},
    {"python3.11", {"-u", "-W", "secret", "-Xdev", "a.py", "secret"}, " %/a.py"},
    {"python3.11", {"-Bc", "secret", "secret"}, " -c"},
    {"python3.11", {"-c", "secret"}, " -c"},
    {"python3.11", {"-csecret"}, " -c"},
    {"python3.11", {"-m", "json.tool", "secret"}, " -m json.tool"},
    {"python3.11", {"-Bmjson.tool", "secret"}, " -m json.tool"},
    {"python3.11", {"--check-hash-based-pycs", "secret", "a.py"}, " %/a.py"},
    {"python3.11", {"-", "secret"}, ""},
    {"python3.11", {"--", "a.py", "secret"}, " %/a.py"},
    {"python3.11", {"-W"}, ""},
    {"python3.11", {NULL}, ""},
    {"pypy3", {"a.py"}, " %/a.py"},

    {"bash", {"run.sh", "secret"}, " %/run.sh"},
    {"bash", {"-c", "secret", "secret"}, " -c"},
    {"bash", {"-lc", "secret"}, " -c"},
    {"bash", {"-euo", "pipefail", "run.sh", "secret"}, " %/run.sh"},
    {"bash", {"+o", "history", "-x", "run.sh"}, " %/run.sh"},
    {"bash", {"--rcfile", "secret", "--norc", "run.sh"}, " %/run.sh"},
    {"bash", {"-s", "secret"}, " -s"},
    {"bash", {"-l"}, ""},
    {"sh", {"-e", "run.sh"}, " %/run.sh"},
    {"dash", {"run.sh"}, " %/run.sh"},
    {"zsh", {"-o", "secret", "run.sh"}, " %/run.sh"},
    {"ksh93", {"run.sh"}, " %/run.sh"},

    {"perl", {"-w", "a.pl", "secret"}, " %/a.pl"},
    {"perl", {"-e", "secret"}, " -e"},
    {"perl", {"-lne", "secret"}, " -e"},
    {"perl5.36.0", {"-0777", "-pi.bak", "-e", "secret"}, " -e"},
    {"perl", {"-MTime::HiRes=sleep", "-I", "secret", "a.pl"}, " %/a.pl"},
    {"perl", {"-E", "secret"}, " -E"},

    {"node", {"app.js", "secret"}, " %/app.js"},
    {"nodejs", {"--inspect", "app.js", "secret"}, " %/app.js"},
    {"node",
     {"-r", "secret", "--import", "secret", "--max-old-space-size=9", "app.js"},
     " %/app.js"},
    {"node", {"-e", "secret"}, " -e"},
    {"node", {"-pe", "secret"}, " -p"},
    {"node", {"--eval", "secret"}, " -c"},

    {"ruby3.1", {"-w", "-Ilib", "a.rb", "secret"}, " %/a.rb"},
    {"ruby", {"-ne", "secret"}, " -e"},
    {"php8.2", {"-d", "secret=1", "a.php", "secret"}, " %/a.php"},
    {"php", {"-r", "secret"}, " -r"},
    {"php", {"-f", "a.php", "--", "secret"}, " %/a.php"},
    {"lua5.4", {"-l", "secret", "a.lua"}, " %/a.lua"},
    {"lua5.4", {"-e", "secret"}, " -e"},
    {"R", {"--no-echo", "--no-restore", "--file=a.R", "--args", "secret"}, " %/a.R"},
    {"R", {"--no-echo", "-e", "secret"}, " -e"},
    {"java", {"-Xmx1g", "-Dpassword=secret", "-jar", "a.jar", "secret"}, " %/a.jar"},
    {"java", {"-cp", "secret.jar", "org.example.Main", "secret"}, " org.example.Main"},
    {"java",
     {"-p", "secret", "-m", "mod/org.example.Main", "secret"},
     " -m mod/org.example.Main"},
    {"java", {"Main.java", "secret"}, " %/Main.java"},
    {"tclsh8.6", {"-encoding", "secret", "a.tcl", "secret"}, " %/a.tcl"},
    {"deno", {"run", "--allow-read", "a.ts", "secret"}, " %/a.ts"},
    {"deno", {"eval", "secret"}, " -c"},
    {"bun", {"a.ts", "secret"}, " %/a.ts"},

    /* What looks like program text is not shown whatever we took it for. */
    {"bash", {"--weird", "echo secret; rm x"}, ""},
    {"python3.11", {"print('secret')"}, ""},
    /* A name with a blank is a name. */
    {"python3.11", {"my script.py", "secret"}, " %/my script.py"},
};

static void expand(const char *want, const char *exe, char *out, size_t size)
{
	const char *percent = strchr(want, '%');

	if (percent)
		snprintf(out, size, "%s/%s%.*s%s%s", dir, exe, (int)(percent - want),
			 want, dir, percent + 1);
	else
		snprintf(out, size, "%s/%s%s", dir, exe, want);
}

static bool make_copy(const char *name)
{
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char path[PATH_MAX];
	struct stat st;
	off_t left;
	int out;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return out < 0 && errno == EEXIST;
	for (left = st.st_size; left > 0;) {
		ssize_t n = sendfile(out, in, NULL, (size_t)left);

		if (n <= 0)
			break;
		left -= n;
	}
	close(in);
	close(out);
	return left == 0;
}

/* posix_spawn() returns a little before the kernel shows the new command line. */
static void wait_for_arguments(pid_t pid, int count)
{
	static char seen[1 << 18];
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	for (int i = 0; i < 5000; i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, seen, sizeof(seen));
		int ends = 0;

		if (fd >= 0)
			close(fd);
		for (ssize_t k = 0; k < n; k++)
			ends += !seen[k];
		if (ends == count)
			return;
		usleep(1000);
	}
}

static pid_t start(const char *name, const char *const args[ARGS])
{
	char *environment[] = {(char *)"TEST_PROGRAM_WAITS=1",
			       (char *)"ASAN_OPTIONS=detect_leaks=0", NULL};
	char *argv[ARGS + 2] = {(char *)name};
	char path[PATH_MAX];
	pid_t pid = -1;
	int count = 1;

	for (; count <= ARGS && args[count - 1]; count++)
		argv[count] = (char *)args[count - 1];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	CHECK(posix_spawn(&pid, path, NULL, NULL, argv, environment) == 0);
	wait_for_arguments(pid, count);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_table(void)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char seen[PATH_MAX], want[PATH_MAX];
		pid_t pid;

		CHECK(make_copy(table[i].exe));
		pid = start(table[i].exe, table[i].args);
		fs_program_name(pid, seen, sizeof(seen));
		expand(table[i].want, table[i].exe, want, sizeof(want));
		CHECK(strcmp(seen, want) == 0, "row %zu: %s, wanted %s", i, seen, want);
		CHECK(!strstr(seen, "secret"), "row %zu: %s", i, seen);
		end(pid);
	}
}

static void test_others(void)
{
	static const char *const script[ARGS] = {"a.py"};
	char seen[PATH_MAX], path[PATH_MAX], *long_args[ARGS] = {NULL};
	pid_t pid;

	fs_program_name(0, seen, sizeof(seen));
	CHECK(strcmp(seen, "(unknown)") == 0);
	/* Replaced by an upgrade: still the program that it was. */
	pid = start("python3.11", script);
	snprintf(path, sizeof(path), "%s/python3.11", dir);
	CHECK(unlink(path) == 0);
	fs_program_name(pid, seen, sizeof(seen));
	CHECK(strncmp(seen, path, strlen(path)) == 0 && seen[strlen(path)] == ' ' &&
		  strstr(seen, "/a.py"),
	      "%s", seen);
	end(pid);
	fs_program_name(pid, seen, sizeof(seen));
	CHECK(strcmp(seen, "(pid gone)") == 0, "%s", seen);

	/* A script behind more text than is looked at, and one that is cut by its end. */
	CHECK(make_copy("python3.11"));
	for (int i = 0; i < 2; i++) {
		long_args[0] = (char *)"-W";
		long_args[1] = malloc(17000);
		if (!CHECK(long_args[1]))
			return;
		memset(long_args[1], 'x', 17000);
		long_args[1][i ? 16375 : 16999] = '\0';
		long_args[2] = (char *)"secret.py";
		pid = start("python3.11", (const char *const *)long_args);
		fs_program_name(pid, seen, sizeof(seen));
		CHECK(strcmp(seen, path) == 0, "%s", seen);
		end(pid);
		free(long_args[1]);
	}

	/* A short buffer is filled and ended, not overrun. */
	pid = start("python3.11", script);
	memset(seen, 'z', sizeof(seen));
	fs_program_name(pid, seen, 8);
	CHECK(strlen(seen) == 7 && seen[8] == 'z');
	end(pid);
}

/* Of another user's process that we may not look into, the short name. */
static void test_not_allowed(void)
{
	static const char *const args[ARGS] = {"secret.py"};
	char seen[PATH_MAX];
	pid_t pid, child;
	int status = -1;

	if (geteuid() != 0) {
		puts("another user's process: not tried, that takes root");
		return;
	}
	pid = start("python3.11", args);
	child = fork();
	if (child == 0) {
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(3);
		fs_program_name(pid, seen, sizeof(seen));
		_exit(strcmp(seen, "(python3.11)") != 0);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0, "%x", status);
	end(pid);
}

int main(void)
{
	char path[PATH_MAX];

	if (getenv("TEST_PROGRAM_WAITS")) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	if (!CHECK(mkdtemp(dir)) || !CHECK(chdir(dir) == 0))
		return check_done();
	test_table();
	test_others();
	test_not_allowed();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, table[i].exe);
		unlink(path);
	}
	rmdir(dir);
	return check_done();
}
