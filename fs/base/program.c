/* SPDX-License-Identifier: MIT */
/* Finds which program writes: the executable and, of a script, the script. */
#include "base/program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"

#define CMDLINE_MAX 16384 /* bytes of the command line that are read */

/* Describes how an interpreter reads its command line, as far as is needed to find the
 * script and to show nothing else. Letters are options of one dash, which may be grouped
 * unless `words` is set; words are options as they are written, between blanks. */
struct interpreter {
	const char *name;	/* of the executable, before its version */
	const char *code;	/* letters: program text follows */
	const char *module;	/* letters: the name of a module follows */
	const char *file;	/* letters: the script follows */
	const char *value;	/* letters: something follows, attached or as the next */
	const char *attached;	/* letters: the rest of the group belongs to it */
	const char *code_words; /* as code, module, value, for words */
	const char *module_words;
	const char *value_words;
	const char *commands; /* words before the script that are not it */
	bool words;
	bool plus; /* options may begin with a plus */
};

/* clang-format off */
#define SHELL(n) { .name = (n), .code = "cs", .value = "oO", .plus = true, \
		   .code_words = " --command --init-command ", .value_words = " --rcfile --init-file " }
#define PYTHON(n) { .name = (n), .code = "c", .module = "m", .value = "WX", \
		    .value_words = " --check-hash-based-pycs " }
static const struct interpreter interpreters[] = {
	PYTHON("python"), PYTHON("pypy"),
	SHELL("bash"), SHELL("sh"), SHELL("dash"), SHELL("ash"), SHELL("zsh"), SHELL("ksh"),
	SHELL("mksh"), SHELL("fish"),
#define NODE(n) { .name = (n), .code = "ep", .value = "rC", .code_words = " --eval --print ", \
	.value_words = " --require --import --loader --experimental-loader --conditions --title" \
		       " --input-type --env-file --icu-data-dir --openssl-config " }
	NODE("node"), NODE("nodejs"),
	{ .name = "perl", .code = "eE", .value = "I", .attached = "iFMmxV" },
	{ .name = "ruby", .code = "e", .value = "ICEr", .attached = "iFKWTx" },
	{ .name = "php", .code = "rBRE", .file = "fF", .value = "cdztS", .code_words = " --run " },
	{ .name = "php-cgi", .code = "rBRE", .file = "fF", .value = "cdztS" },
	{ .name = "lua", .code = "e", .value = "l" },
	{ .name = "luajit", .code = "e", .value = "l", .attached = "jbO" },
	{ .name = "Rscript", .code = "e" },
	{ .name = "R", .code = "e", .file = "f", .words = true },
	{ .name = "java", .words = true, .module_words = " -m --module ",
	  .value_words = " -cp -classpath --class-path -p --module-path --add-modules --add-reads"
			 " --add-exports --add-opens --limit-modules --upgrade-module-path " },
	{ .name = "tclsh", .words = true, .value_words = " -encoding " },
	{ .name = "wish", .words = true, .value_words = " -encoding " },
	{ .name = "expect", .code = "c", .file = "f" },
	{ .name = "julia", .code = "eE", .value = "LptCJ",
	  .code_words = " --eval --print ", .value_words = " --load --procs --threads " },
	{ .name = "deno", .commands = " run ", .code_words = " eval ", .value = "cL",
	  .value_words = " --config --import-map --cert --log-level --lock " },
	{ .name = "bun", .commands = " run ", .code = "ep", .value = "rc",
	  .code_words = " --eval --print ", .value_words = " --preload --config --cwd " },
};

/* clang-format on */

/* "python3.11", "php8.2", "lua5.4", "python3.13t": the name, then a version. */
static bool is_named(const char *base, const char *name)
{
	size_t len = strlen(name), version;

	if (strncmp(base, name, len) != 0)
		return false;
	version = strspn(base + len, "0123456789.-");
	base += len + version;
	if (version && (*base == 't' || *base == 'd'))
		base++;
	return *base == '\0';
}

static const struct interpreter *find_interpreter(const char *exe)
{
	const char *base = strrchr(exe, '/');

	base = base ? base + 1 : exe;
	for (size_t i = 0; i < sizeof(interpreters) / sizeof(interpreters[0]); i++)
		if (is_named(base, interpreters[i].name))
			return &interpreters[i];
	return NULL;
}

static bool has_letter(const char *letters, char c)
{
	return letters && c && strchr(letters, c);
}

static bool has_word(const char *list, const char *word)
{
	char padded[64];
	int n = snprintf(padded, sizeof(padded), " %s ", word);

	return list && n > 0 && (size_t)n < sizeof(padded) && strstr(list, padded);
}

/* A command line, argument by argument. */
struct arguments {
	const char *at, *end;
};

static const char *next_argument(struct arguments *a)
{
	const char *argument = a->at;

	if (a->at >= a->end)
		return NULL;
	a->at += strlen(a->at) + 1;
	return argument;
}

enum found { FOUND_NOTHING, FOUND_CODE, FOUND_MODULE, FOUND_SCRIPT, FOUND_GO_ON };

/* Reads one group of letters behind a dash; *text is the part to show. */
static enum found read_group(const struct interpreter *in, const char *group,
			     struct arguments *a, const char **text, char *letter)
{
	for (; *group; group++) {
		const char *rest = group + 1;

		*letter = *group;
		if (has_letter(in->code, *group))
			return FOUND_CODE;
		if (has_letter(in->attached, *group))
			return FOUND_GO_ON;
		if (has_letter(in->module, *group) || has_letter(in->file, *group) ||
		    has_letter(in->value, *group)) {
			*text = *rest ? rest : next_argument(a);
			return has_letter(in->module, *group) ? FOUND_MODULE
			       : has_letter(in->file, *group) ? FOUND_SCRIPT
							      : FOUND_GO_ON;
		}
	}
	return FOUND_GO_ON;
}

/* Reads an option that is a word: `--eval`, `-cp`, `--file=x.R`. */
static enum found read_word(const struct interpreter *in, const char *word,
			    struct arguments *a, const char **text, char *letter)
{
	*letter = '\0';
	if (strcmp(in->name, "R") == 0 && strncmp(word, "--file=", 7) == 0) {
		*text = word + 7;
		return FOUND_SCRIPT;
	}
	if (has_word(in->code_words, word))
		return FOUND_CODE;
	if (has_word(in->module_words, word) || has_word(in->value_words, word)) {
		bool module = has_word(in->module_words, word);

		*text = next_argument(a);
		*letter = 'm';
		return module ? FOUND_MODULE : FOUND_GO_ON;
	}
	if (in->words && word[1] != '-' && word[2] == '\0') {
		/* A single letter counts as one also where groups do not exist. */
		return read_group(in, word + 1, a, text, letter);
	}
	return FOUND_GO_ON;
}

/* Finds the script: the first argument that is not an option, or what an option gives
 * instead. */
static enum found find_script(const struct interpreter *in, struct arguments *a,
			      const char **text, char *letter)
{
	bool options = true;
	const char *argument;

	(void)next_argument(a); /* argv[0] */
	while ((argument = next_argument(a))) {
		enum found found;
		char dash = argument[0];

		if (!options || (dash != '-' && !(in->plus && dash == '+'))) {
			if (has_word(in->code_words, argument))
				return FOUND_CODE;
			if (has_word(in->commands, argument))
				continue;
			*text = argument;
			return FOUND_SCRIPT;
		}
		if (argument[1] == '\0')
			return FOUND_NOTHING; /* standard input */
		if (strcmp(argument, "--") == 0) {
			options = false;
			continue;
		}
		if (argument[1] == '-' || in->words ||
		    has_word(in->value_words, argument))
			found = read_word(in, argument, a, text, letter);
		else
			found = read_group(in, argument + 1, a, text, letter);
		if (found != FOUND_GO_ON)
			return found;
	}
	return FOUND_NOTHING;
}

/* Returns false for text that looks like code: the last guard against showing code. */
static bool looks_like_a_name(const char *text)
{
	return *text && strlen(text) < PATH_MAX && !strpbrk(text, "\n;(){}$`'\"|<>&*?=");
}

static ssize_t read_proc(pid_t pid, const char *what, char *buf, size_t size)
{
	char path[64];
	size_t have = 0;
	ssize_t n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (have < size && (n = read(fd, buf + have, size - have)) > 0)
		have += (size_t)n;
	return n < 0 ? -errno : (ssize_t)have;
}

static ssize_t read_proc_link(pid_t pid, const char *what, char *buf, size_t size)
{
	char path[64];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	n = readlink(path, buf, size - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	return n;
}

static void append(char *buf, size_t size, const char *text)
{
	size_t len = strlen(buf);

	(void)snprintf(buf + len, size - len, "%s", text);
}

static void append_script(pid_t pid, const char *script, bool is_path, char *buf,
			  size_t size)
{
	char cwd[PATH_MAX];

	append(buf, size, " ");
	if (is_path && script[0] != '/' &&
	    read_proc_link(pid, "cwd", cwd, sizeof(cwd)) > 0) {
		append(buf, size, cwd);
		append(buf, size, strcmp(cwd, "/") == 0 ? "" : "/");
		script += strncmp(script, "./", 2) == 0 ? 2 : 0;
	}
	append(buf, size, script);
}

/* `java -jar X` and `java X.java` name files, `java X` a class. */
static bool script_is_path(const struct interpreter *in, const char *cmdline, size_t len,
			   const char *script)
{
	const char *dot = strrchr(script, '.');

	if (strcmp(in->name, "java") != 0)
		return true;
	return memmem(cmdline, len, "\0-jar", 6) || (dot && strcmp(dot, ".java") == 0);
}

static void add_script(pid_t pid, const struct interpreter *in, char *buf, size_t size)
{
	char cmdline[CMDLINE_MAX + 1], option[] = " -x";
	ssize_t n = read_proc(pid, "cmdline", cmdline, CMDLINE_MAX);
	struct arguments a = {.at = cmdline, .end = cmdline + (n > 0 ? n : 0)};
	const char *text = NULL;
	enum found found;
	char letter = '\0';

	if (n <= 0)
		return;
	cmdline[n] = '\0';
	found = find_script(in, &a, &text, &letter);
	/* An argument that was cut off is not shown. */
	if (text && text + strlen(text) >= cmdline + CMDLINE_MAX)
		return;
	if (found == FOUND_CODE || found == FOUND_MODULE) {
		if (letter)
			option[2] = letter;
		else
			option[2] = 'c';
		append(buf, size, option);
	}
	if ((found == FOUND_MODULE || found == FOUND_SCRIPT) && text &&
	    looks_like_a_name(text))
		append_script(pid, text,
			      found == FOUND_SCRIPT &&
				  script_is_path(in, cmdline, (size_t)n, text),
			      buf, size);
}

/* Adds the kernel's short name, which anybody may read, where the executable may not be
 * read. */
static void add_short_name(pid_t pid, char *buf, size_t size)
{
	char name[64];
	ssize_t n = read_proc(pid, "comm", name, sizeof(name) - 1);

	if (n <= 0) {
		append(buf, size, "(pid gone)");
		return;
	}
	name[n] = '\0';
	name[strcspn(name, "\n")] = '\0';
	append(buf, size, "(");
	append(buf, size, name);
	append(buf, size, ")");
}

/* Adds the executable. Returns the interpreter that it is, or NULL. */
static const struct interpreter *add_executable(pid_t pid, char *buf, size_t size)
{
	static const char deleted[] = " (deleted)";
	char exe[PATH_MAX];
	size_t len;

	buf[0] = '\0';
	if (pid <= 0) {
		append(buf, size, "(unknown)");
		return NULL;
	}
	if (read_proc_link(pid, "exe", exe, sizeof(exe)) < 0) {
		add_short_name(pid, buf, size);
		return NULL;
	}
	len = strlen(exe);
	/* Replaced by an upgrade: it is still that program. */
	if (len > sizeof(deleted) &&
	    strcmp(exe + len - sizeof(deleted) + 1, deleted) == 0)
		exe[len - sizeof(deleted) + 1] = '\0';
	append(buf, size, exe);
	return find_interpreter(exe);
}

void fs_program_name(pid_t pid, char *buf, size_t size)
{
	const struct interpreter *in = add_executable(pid, buf, size);

	if (in)
		add_script(pid, in, buf, size);
}

/* Holds the name that this thread has found for the process whose request it carries
 * out. */
static _Thread_local struct {
	pid_t pid; /* 0: nothing */
	const char *name;
} known;

void fs_program_known(pid_t pid, const char *name)
{
	known.pid = name ? pid : 0;
	known.name = name;
}

bool fs_program_short(pid_t pid, char *buf, size_t size)
{
	if (known.pid == 0 || known.pid != pid)
		return add_executable(pid, buf, size);
	buf[0] = '\0';
	append(buf, size, known.name);
	return false;
}
