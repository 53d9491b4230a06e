/* SPDX-License-Identifier: MIT */
/* jsonlfsctl: the operator's side of jsonlfs. */
#include "ctl/ctl.h"

#include <stdarg.h>
#include <string.h>

#include "base/cleanup.h"

static const struct ctl_command *const commands[] = {
    &ctl_check,	 &ctl_repair,	     &ctl_quarantine, &ctl_archive, &ctl_replace,
    &ctl_edit,	 &ctl_delete_record, &ctl_append,     &ctl_rotate,  &ctl_reap,
    &ctl_status, &ctl_metrics, &ctl_writers,	     &ctl_report,
    &ctl_watch,      &ctl_config,  &ctl_reload};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* File names and text from the daemon may be part of a message, so it is escaped. */
static void print_message(const char *format, va_list ap)
{
	cleanup_free char *text = NULL;

	if (vasprintf(&text, format, ap) < 0) {
		text = NULL;
		(void)fputs("out of memory", stderr);
		return;
	}
	(void)ctl_print_name(stderr, text);
}

void ctl_error(const char *format, ...)
{
	va_list ap;

	/* The order counts where both streams go to one place. */
	(void)fflush(stdout);
	(void)fputs("jsonlfsctl: ", stderr);
	va_start(ap, format);
	print_message(format, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
}

int ctl_usage(const struct ctl_command *command, const char *format, ...)
{
	va_list ap;

	(void)fprintf(stderr, "jsonlfsctl%s%s: ", command ? " " : "",
		      command ? command->name : "");
	va_start(ap, format);
	print_message(format, ap);
	va_end(ap);
	(void)fprintf(stderr, "\nTry: jsonlfsctl %s%s--help\n",
		      command ? command->name : "", command ? " " : "");
	return CTL_USAGE;
}

bool ctl_take_value(const char *name, int argc, char **argv, int *i, const char **value)
{
	size_t len = strlen(name);

	if (strncmp(argv[*i], name, len) != 0)
		return false;
	if (argv[*i][len] == '=') {
		*value = argv[*i] + len + 1;
		return true;
	}
	if (argv[*i][len] || *i + 1 >= argc)
		return false;
	*value = argv[++*i];
	return true;
}

int ctl_next_option(int argc, char **argv, int i, int *out)
{
	for (; i < argc && argv[i][0] != '-'; i++)
		argv[(*out)++] = argv[i];
	if (i == argc || strcmp(argv[i], "--") != 0)
		return i;
	while (++i < argc)
		argv[(*out)++] = argv[i];
	return argc;
}

static void ctl_help(const struct ctl_command *command)
{
	printf("usage: jsonlfsctl %s %s\n%s\n", command->name, command->synopsis,
	       command->help);
}

static int help(void)
{
	puts("usage: jsonlfsctl COMMAND [OPTION...] PATH...\n\nCommands:");
	for (size_t i = 0; i < COMMANDS; i++)
		printf("  %-13s %s\n", commands[i]->name, commands[i]->summary);
	puts("\njsonlfsctl COMMAND --help tells more of one, jsonlfsctl(1) of all.\n"
	     "jsonlfsctl --version prints the version.");
	return CTL_OK;
}

static bool asks_for(const char *argument, const char *what, char letter)
{
	return strcmp(argument, what) == 0 ||
	       (strncmp(argument, "--", 2) == 0 && strcmp(argument + 2, what) == 0) ||
	       (argument[0] == '-' && argument[1] == letter && argument[2] == '\0');
}

static const struct ctl_command *find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(name, commands[i]->name) == 0)
			return commands[i];
	return NULL;
}

static int run(int argc, char **argv)
{
	const struct ctl_command *command;

	if (argc < 2)
		return ctl_usage(NULL, "a command is missing");
	if (asks_for(argv[1], "help", 'h') && argc > 2 && find(argv[2])) {
		ctl_help(find(argv[2]));
		return CTL_OK;
	}
	if (asks_for(argv[1], "help", 'h'))
		return help();
	if (asks_for(argv[1], "version", 'V')) {
		puts("jsonlfsctl " JSONLFS_VERSION);
		return CTL_OK;
	}
	command = find(argv[1]);
	if (!command)
		return ctl_usage(NULL, "%s is no command", argv[1]);
	for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			ctl_help(command);
			return CTL_OK;
		}
	}
	return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
	int code = run(argc, argv);

	/* A script must not take a truncated report for a whole one. */
	if (fflush(stdout) != 0 || ferror(stdout)) {
		ctl_error("cannot write to standard output");
		code |= CTL_FAILURE;
	}
	return code;
}
