/* jsonlfsctl archive: what unlink, rewrites and repair have kept. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "cleanup.h"
#include "control.h"
#include "ctl.h"
#include "names.h"
#include "place.h"
#include "replace.h"

#define COPY_PIECE	 (256UL << 10)
#define CTL_MAXDEPTH	 128
#define CTL_MAXRECORD	 (16U << 20)
#define CTL_ARCHIVE_PATH 120 /* bytes of a path that a name holds: more were cut */

struct request {
	bool json;
	const char *state, *as;
	char **rest; /* what is no option: PATH, NAME... */
	int count;
};

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The path behind the stamp, in place; "" when the name has no stamp. */
static void decode(const char *name, char *path)
{
	const char *from = strchr(name, '-');

	for (from = from ? from + 1 : ""; *from; from++) {
		if (from[0] == '%' && from[1] && hex(from[1]) >= 0 && hex(from[2]) >= 0) {
			*path++ = (char)(hex(from[1]) << 4 | hex(from[2]));
			from += 2;
		} else {
			*path++ = *from;
		}
	}
	*path = '\0';
}

/* 20261120T101112.123456789Z-... as 2026-11-20T10:11:12.123456789Z. */
static void decode_time(const char *name, char text[40])
{
	if (strlen(name) > 26 && name[8] == 'T' && name[15] == '.' && name[25] == 'Z')
		(void)snprintf(text, 40, "%.4s-%.2s-%.2sT%.2s:%.2s:%.2s%.11s", name,
			       name + 4, name + 6, name + 9, name + 11, name + 13,
			       name + 15);
	else
		(void)snprintf(text, 40, "?");
}

static void tell(struct jsonl_report *list, const char *name, const struct stat *st)
{
	cleanup_free char *path = malloc(strlen(name) + 1);
	char when[40], size[CTL_NUMBER];
	size_t used;

	if (!path)
		return;
	decode(name, path);
	decode_time(name, when);
	if (list) {
		struct jsonl_report *o = jsonl_report_object();

		jsonl_report_add_string(o, "file", name);
		jsonl_report_add_string(o, "time", when);
		jsonl_report_add_string(o, "path", path);
		jsonl_report_add_uint(o, "bytes", (uint64_t)st->st_size);
		jsonl_report_add_uint(o, "uid", st->st_uid);
		jsonl_report_add(list, NULL, o);
		return;
	}
	printf("%-19.19s  %10s  ", when, ctl_bytes((uint64_t)st->st_size, size));
	used = ctl_print_name(stdout, path);
	printf("%*s", used < 32 ? (int)(32 - used) : 1, "");
	(void)ctl_print_name(stdout, name);
	putchar('\n');
}

static int print_list(struct jsonl_report *list, uint64_t files, uint64_t bytes)
{
	struct jsonl_report *o = jsonl_report_object();

	jsonl_report_add_uint(o, "files", files);
	jsonl_report_add_uint(o, "bytes", bytes);
	jsonl_report_add(o, "archive", list);
	return ctl_print_report(o);
}

static int wanted(void *ctx, const char *name, unsigned char type)
{
	return name[0] != '.';
}

static int list_names(const struct request *r, int dir, const struct ctl_names *names)
{
	struct jsonl_report *list = r->json ? jsonl_report_array() : NULL;
	char number[CTL_NUMBER], size[CTL_NUMBER];
	uint64_t files = 0, bytes = 0;

	if (!r->json && names->count)
		printf("%-21s%10s  %-32s%s\n", "TIME (UTC)", "SIZE", "PATH", "NAME");
	for (size_t i = 0; i < names->count; i++) {
		struct stat st;

		if (fstatat(dir, names->list[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		files++;
		bytes += (uint64_t)st.st_size;
		tell(list, names->list[i], &st);
	}
	if (r->json)
		return print_list(list, files, bytes);
	printf("%s files, %s\n", ctl_number(files, number), ctl_bytes(bytes, size));
	return 0;
}

static int open_archive(const struct request *r, const struct ctl_vault *v)
{
	cleanup_close int state = ctl_vault_state(v, r->state);
	int dir;

	if (state < 0)
		return state;
	dir = openat(state, "archive", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return dir < 0 ? -errno : dir;
}

static int tell_unreadable(const struct request *r, int rc)
{
	ctl_error("%s: %s: name a vault that was mounted, or its state= directory "
		  "with --state; the names are for root and the vault's owner",
		  r->rest[0], jsonl_error_text(rc));
	return CTL_FAILURE;
}

static int list(const struct request *r, const struct ctl_vault *v)
{
	cleanup_close int dir = open_archive(r, v);
	struct ctl_names names = {0};
	int rc = dir < 0 ? dir : ctl_names_read(&names, dir, wanted, NULL);
	int code = rc < 0 ? tell_unreadable(r, rc) : list_names(r, dir, &names);

	ctl_names_free(&names);
	return code;
}

/* ---- restore ---- */

static int copy(int from, struct jsonl_replace *to)
{
	cleanup_free char *buf = malloc(COPY_PIECE);
	off_t at = 0;
	ssize_t n = 1;
	int rc = buf ? 0 : -ENOMEM;

	while (rc == 0 && n > 0) {
		n = jsonl_io_read_full(&jsonl_io_system, from, buf, COPY_PIECE, at);
		rc = n < 0 ? (int)n : jsonl_replace_write(to, buf, (size_t)n);
		at += n;
	}
	return rc;
}

/* 0, JSONL_TRAILING or the like when a line is no record, -errno. */
static int judge(int fd)
{
	const struct jsonl_limits limits = {
	    .maxdepth = CTL_MAXDEPTH, .maxrecord = CTL_MAXRECORD, .pipebuf = UINT64_MAX};
	struct jsonl_check_counts counts = {0};
	const struct jsonl_check check = {0};
	int rc = jsonl_check_fd(&jsonl_io_system, fd, &limits, &check, &counts);

	return rc ? rc : jsonl_check_damage(&counts) ? JSONL_UNKNOWN_TAIL : 0;
}

/* Beside its place first, then by a rename, so that it is there as a whole or not at all:
 * in a mount that is where it is judged once more. */
static int put(int fd, const char *target)
{
	const char *slash = strrchr(target, '/');
	cleanup_free char *dir = strndup(target, (size_t)(slash - target));
	cleanup_close int dir_fd =
	    dir ? open(dir[0] ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct jsonl_replace to;
	struct stat st;
	int rc;

	if (dir_fd < 0)
		return -errno;
	if (fstatat(dir_fd, slash + 1, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	rc = jsonl_replace_begin(&to, &jsonl_io_system, dir_fd, slash + 1, fd);
	if (rc < 0)
		return rc;
	rc = copy(fd, &to);
	if (rc == 0)
		return jsonl_replace_commit(&to, RENAME_NOREPLACE);
	jsonl_replace_abort(&to);
	return rc;
}

static const char *explain(int rc)
{
	switch (rc) {
	case -EEXIST:
		return "there is a file of this name: restore to another with --as=PATH, "
		       "or append the records: jsonlfsctl append";
	case -ENOENT:
		return "no such directory: make it, or restore to another with --as=PATH";
	case JSONL_UNKNOWN_TAIL:
	case -EBADMSG:
		return "not every line of it is a record: copy it out of the archive, "
		       "mend it with jsonlfsctl repair, and append it";
	case -EACCES:
	case -EPERM:
		return "permission denied: restore as root, or as the owner of the file "
		       "and of its directory";
	default:
		return jsonl_error_text(rc);
	}
}

static bool is_inner(const char *path)
{
	size_t len = strlen(path);

	return len && path[0] != '/' && strncmp(path, "../", 3) != 0 &&
	       !strstr(path, "/../") && strcmp(path, "..") != 0 &&
	       (len < 3 || strcmp(path + len - 3, "/..") != 0);
}

static int restore(const struct request *r, const struct ctl_vault *v)
{
	const char *name = r->rest[1];
	cleanup_free char *path = malloc(strlen(name) + 1);
	cleanup_free char *target = NULL;
	cleanup_close int dir = open_archive(r, v);
	cleanup_close int fd = -1;
	struct stat st;
	int rc;

	if (!path)
		return CTL_FAILURE;
	if (dir < 0)
		return tell_unreadable(r, dir);
	if (name[0] != '.' && !strchr(name, '/'))
		fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		ctl_error("%s: cannot be read: jsonlfsctl archive list tells the names",
			  name);
		return CTL_FAILURE;
	}
	decode(name, path);
	if (!r->as && (!is_inner(path) || strlen(path) >= CTL_ARCHIVE_PATH)) {
		ctl_error("%s: the name does not say for sure where it was: restore it "
			  "with --as=PATH",
			  name);
		return CTL_FAILURE;
	}
	if ((r->as ? asprintf(&target, "%s%s", strchr(r->as, '/') ? "" : "./", r->as)
		   : asprintf(&target, "%s/%s", v->root, path)) < 0) {
		target = NULL;
		return CTL_FAILURE;
	}
	rc = judge(fd);
	if (rc == 0)
		rc = put(fd, target);
	if (rc) {
		ctl_error("%s: %s", target, explain(rc));
		return rc > 0 || rc == -EBADMSG ? CTL_DAMAGE : CTL_FAILURE;
	}
	(void)ctl_print_name(stdout, target);
	puts("\nthe entry is kept: jsonlfsctl archive drop removes it");
	return 0;
}

/* ---- drop ---- */

static int drop_names(const struct request *r, int dir)
{
	int code = 0;

	for (int i = 1; i < r->count; i++) {
		const char *name = r->rest[i];
		bool good = name[0] != '.' && name[0] && !strchr(name, '/');

		if (good && unlinkat(dir, name, 0) == 0)
			continue;
		ctl_error("%s: %s: jsonlfsctl archive list tells the names", name,
			  good ? jsonl_error_text(-errno) : "no name of an entry");
		code = CTL_FAILURE;
	}
	if (fsync(dir) < 0) {
		ctl_error("%s: %s", r->rest[0], jsonl_error_text(-errno));
		code = CTL_FAILURE;
	}
	return code;
}

static int drop(const struct request *r, const struct ctl_vault *v)
{
	cleanup_close int dir = open_archive(r, v);
	struct ctl_place place = {0};
	int code, rc;

	if (dir < 0)
		return tell_unreadable(r, dir);
	code = ctl_control_drop(v, "archive-drop", r->rest[0], r->rest + 1, r->count - 1);
	rc = ctl_place_find(r->state ? r->state : r->rest[0], &place);
	if (code == -ENOENT && rc == 0 && place.inside) {
		ctl_place_refuse("archive drop", r->rest[0], &place);
		code = CTL_FAILURE;
	} else if (code == -ENOENT) {
		code = drop_names(r, dir);
	}
	ctl_place_free(&place);
	return code;
}

/* ---- the command line ---- */

static const struct {
	const char *name;
	int (*run)(const struct request *r, const struct ctl_vault *v);
	int least, most;
	const char *wants;
} actions[] = {
    {"list", list, 1, 1, "PATH"},
    {"restore", restore, 2, 2, "PATH NAME"},
    {"drop", drop, 2, 1 << 30, "PATH NAME..."},
};

#define ACTIONS (sizeof(actions) / sizeof(actions[0]))

static int parse(struct request *r, int argc, char **argv)
{
	bool options = true;
	int out = 1;

	for (int i = 1; i < argc; i++) {
		if (!options || argv[i][0] != '-')
			argv[out++] = argv[i];
		else if (strcmp(argv[i], "--") == 0)
			options = false;
		else if (strcmp(argv[i], "--json") == 0)
			r->json = true;
		else if (!ctl_take_value("--state", argc, argv, &i, &r->state) &&
			 !ctl_take_value("--as", argc, argv, &i, &r->as))
			return ctl_usage(&ctl_archive, "unknown option %s", argv[i]);
	}
	if (out < 2)
		return ctl_usage(&ctl_archive, "list, restore or drop is missing");
	r->rest = argv + 2;
	r->count = out - 2;
	return 0;
}

static int run_action(const struct request *r, size_t i)
{
	struct ctl_vault v;
	int rc, code;

	if (r->count < actions[i].least || r->count > actions[i].most)
		return ctl_usage(&ctl_archive, "%s wants %s", actions[i].name,
				 actions[i].wants);
	if (r->json && actions[i].run != list)
		return ctl_usage(&ctl_archive, "--json is for list");
	if (r->as && actions[i].run != restore)
		return ctl_usage(&ctl_archive, "--as is for restore");
	rc = ctl_vault_find(r->rest[0], &v);
	if (rc < 0) {
		ctl_error("%s: %s", r->rest[0], jsonl_error_text(rc));
		return CTL_FAILURE;
	}
	code = actions[i].run(r, &v);
	ctl_vault_free(&v);
	return code;
}

static int archive_run(int argc, char **argv)
{
	struct request r = {0};
	int code = parse(&r, argc, argv);

	if (code)
		return code;
	for (size_t i = 0; i < ACTIONS; i++)
		if (strcmp(argv[1], actions[i].name) == 0)
			return run_action(&r, i);
	return ctl_usage(&ctl_archive, "%s is not list, restore or drop", argv[1]);
}

const struct ctl_command ctl_archive = {
    .name = "archive",
    .run = archive_run,
    .synopsis = "list|restore|drop [--json] [--as=PATH] [--state=DIR] PATH [NAME...]",
    .summary = "files that were removed, replaced or repaired, as they were",
    .help =
	"\n"
	"PATH is a vault, mounted or not, or any directory in it. For root, or the owner "
	"of\n"
	"the vault's state directory.\n"
	"\n"
	"  list [--json] PATH  the files: when they came, how large, from where\n"
	"  restore PATH NAME   put a file back where it was, with its owner, mode and "
	"times,\n"
	"                      if nothing is there and all of its lines are records\n"
	"    --as=PATH         put it there instead\n"
	"  drop PATH NAME...   remove files from the archive, for good\n"
	"\n"
	"  --state=DIR         the state directory, if it is not .jsonlfs in the vault\n"
	"\n"
	"Exit status: 0, 4 not all lines are records and nothing was restored, 8 "
	"something\n"
	"could not be read or done, 16 wrong usage.",
};
