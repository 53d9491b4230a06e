/* SPDX-License-Identifier: MIT */
/* Parses the command line, as users, mount(8) and fstab write it. */
#include "start/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fuse.h"
#include "rules/config.h"
#include "rules/option.h"
#include "start/exit.h"
#include "tree/mount.h"

/* Lists options of fstab and mount(8) that do not concern a file system in user space:
 * how a line of fstab is treated, what is always on, or what the backing file system
 * decides. */
static const char *const ignored[] = {
    "defaults", "auto",	    "noauto",	  "nofail",	"user",	       "nouser",
    "users",	"nousers",  "owner",	  "noowner",	"group",       "nogroup",
    "_netdev",	"dev",	    "nodev",	  "suid",	"nosuid",      "exec",
    "async",	"atime",    "relatime",	  "norelatime", "strictatime", "nostrictatime",
    "diratime", "lazytime", "nolazytime", "iversion",	"noiversion",  "mand",
    "nomand",	"silent",   "loud",	  "symfollow",	"comment",     "helper",
    "uhelper",	"noatime",  "nodiratime",
};

/* Options for the kernel, passed on unchanged. */
static const char *const for_kernel[] = {"noexec", "sync", "dirsync", "auto_unmount"};

#define IN(list, name) options_in((list), sizeof(list) / sizeof((list)[0]), (name))

static bool options_in(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(list[i], name) == 0)
			return true;
	}
	return false;
}

/* Makes a path absolute: the daemon's current directory is another, and the file may be
 * read again. */
static char *options_absolute(const char *path)
{
	cleanup_free char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
	char *absolute;

	if (!here)
		return strdup(path); /* unchanged, should there be no current directory */
	if (asprintf(&absolute, "%s/%s", strcmp(here, "/") == 0 ? "" : here, path) < 0)
		return NULL;
	return absolute;
}

static int options_set(struct fs_options *o, struct fs_mount *m, const char *key,
		       const char *value)
{
	cleanup_free char *error = NULL;
	cleanup_free char *path = NULL;
	int r;

	if (strncmp(key, "x-", 2) == 0 || strncmp(key, "X-", 2) == 0 || IN(ignored, key))
		return 0;
	if (!value && IN(for_kernel, key))
		return fuse_opt_add_opt_escaped(&o->kernel, key) ? FS_EXIT_SYSTEM : 0;
	if (strcmp(key, "config") == 0 && m->vault.config.path) {
		fprintf(stderr,
			"jsonlfs: config= is given twice: put everything into %s\n",
			m->vault.config.path);
		return FS_EXIT_USAGE;
	}
	if (strcmp(key, "config") == 0 && value && *value) {
		value = path = options_absolute(value);
		if (!path)
			return FS_EXIT_SYSTEM;
	}
	r = jsonl_config_set(&m->vault.config, key, value, &error);
	if (r == 0 || (r == -ENOENT && o->sloppy))
		return 0;
	if (r == -ENOENT)
		fprintf(stderr, "jsonlfs: unknown option \"%s\"; jsonlfs -h lists them\n",
			key);
	else
		fprintf(stderr, "jsonlfs: %s\n", error ? error : jsonl_error_text(r));
	return r == -ENOMEM ? FS_EXIT_SYSTEM : FS_EXIT_USAGE;
}

/* Looked for first: mount(8) puts what the kernel says of the mount before it. */
static bool options_remount(const char *list)
{
	cleanup_free char *copy = strdup(list);
	char *next = copy, *key, *value;

	while (copy && (key = jsonl_option_next(&next, &value)))
		if (strcmp(key, "remount") == 0)
			return true;
	return false;
}

/* Takes one argument of -o. */
static int options_list(struct fs_options *o, struct fs_mount *m, const char *list)
{
	cleanup_free char *copy = strdup(list);
	char *next = copy, *key, *value;
	int r = copy ? 0 : FS_EXIT_SYSTEM;

	if (options_remount(list)) {
		fprintf(stderr, "jsonlfs: remount is not available: unmount, then mount "
				"again\n");
		return FS_EXIT_USAGE;
	}
	while (!r && (key = jsonl_option_next(&next, &value)))
		r = options_set(o, m, key, value);
	return r;
}

static int options_letter(struct fs_options *o, struct fs_mount *m, int letter)
{
	switch (letter) {
	case 'o':
		return options_list(o, m, optarg);
	case 'f':
		if (o->helper)
			o->fake = true;
		else
			m->foreground = true;
		return 0;
	case 'd':
		m->foreground = m->debug = true;
		return 0;
	case 's':
		if (!o->helper)
			o->single = true;
		return 0;
	case 'v': /* has no effect */
	case 'n': /* no mtab: has no effect */
	case 't': /* the type of file system, by which mount(8) found us */
		return 0;
	case 'h':
		o->task = FS_TASK_HELP;
		return 0;
	case 'V':
		o->task = FS_TASK_VERSION;
		return 0;
	default:
		fprintf(stderr, "Try jsonlfs -h.\n");
		return FS_EXIT_USAGE;
	}
}

int fs_options_parse(int argc, char **argv, struct fs_options *o, struct fs_mount *m)
{
	static const struct option words[] = {{"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {NULL, 0, NULL, 0}};
	static const char letters[] = "o:fdsvnt:hV";
	cleanup_free char *error = NULL;
	const char *base = argc > 0 ? strrchr(argv[0], '/') : NULL;
	int letter, r = 0;

	base = base ? base + 1 : argc > 0 ? argv[0] : "";
	o->helper = strncmp(base, "mount.", 6) == 0;
	if (jsonl_config_init(&m->vault.config))
		return FS_EXIT_SYSTEM;
	/* -s must be known before the unknown options that it allows. */
	opterr = 0;
	/* NOLINTBEGIN(concurrency-mt-unsafe): one thread so far */
	while ((letter = getopt_long(argc, argv, letters, words, NULL)) != -1)
		o->sloppy |= o->helper && letter == 's';
	opterr = 1;
	optind = 0;
	while (!r && (letter = getopt_long(argc, argv, letters, words, NULL)) != -1)
		r = options_letter(o, m, letter);
	/* NOLINTEND(concurrency-mt-unsafe) */
	if (r || o->task != FS_TASK_MOUNT)
		return r;
	if (argc - optind != 2) {
		fprintf(stderr, "jsonlfs: %s: jsonlfs [-o OPTIONS] SOURCE MOUNTPOINT\n",
			argc - optind < 2 ? "a directory is missing"
					  : "too many arguments");
		return FS_EXIT_USAGE;
	}
	o->source = argv[optind];
	o->mountpoint = argv[optind + 1];
	if (jsonl_config_check(&m->vault.config, &error)) {
		fprintf(stderr, "jsonlfs: %s\n", error ? error : "options contradict");
		return FS_EXIT_USAGE;
	}
	return 0;
}

/* Returns true when the file is below the mount. It may be opened again at any time, for
 * which this daemon must not be asked. */
static bool below_mount(const struct fs_mount *m, const char *path)
{
	cleanup_free char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	cleanup_free char *real = NULL;
	size_t n = strlen(m->vault.mountpoint);

	if (!slash)
		return false;
	slash[slash == dir] = '\0';
	real = realpath(dir, NULL);
	return real && (strcmp(m->vault.mountpoint, "/") == 0 ||
			(strncmp(real, m->vault.mountpoint, n) == 0 &&
			 (real[n] == '/' || real[n] == '\0')));
}

int fs_options_log(const struct fs_mount *m)
{
	static const char *const words[] = {"syslog", "journal", "none"};
	const char *log = m->vault.config.log;

	if (!log || IN(words, log))
		return 0;
	if (log[0] == '/' && !below_mount(m, log))
		return 0;
	fprintf(stderr,
		log[0] == '/'
		    ? "jsonlfs: log=%s lies in the vault: name a file outside\n"
		    : "jsonlfs: log=%s: syslog, journal, none, or the path of a "
		      "file that begins with /\n",
		log);
	return FS_EXIT_USAGE;
}

void fs_options_deinit(struct fs_options *o)
{
	free(o->kernel);
}

void fs_options_help(FILE *to)
{
	fputs("Usage: jsonlfs [-o OPTION[,OPTION...]] SOURCE MOUNTPOINT\n"
	      "\n"
	      "Mounts SOURCE on MOUNTPOINT (they may be the same directory), so that no\n"
	      "program can break a JSON Lines file in it.\n"
	      "\n"
	      "    -f                            stay in the foreground, log to stderr\n"
	      "    -d                            as -f, and show every request\n"
	      "    -s                            one worker thread\n"
	      "    -h, --help                    this text\n"
	      "    -V, --version                 the version\n"
	      "\n"
	      "Options (sizes in bytes, or with K, M, G; a comma in a value is written "
	      "\\,):\n",
	      to);
	jsonl_config_help(to);
	fputs("    -o noexec, sync, dirsync, auto_unmount\n"
	      "                                  as in mount(8) and fuse(8)\n"
	      "\n"
	      "What fstab lines add (defaults, nofail, noauto, user, _netdev, x-...) is\n"
	      "accepted. nosuid and nodev are always on.\n",
	      to);
}
