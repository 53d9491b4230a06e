/* jsonlfsctl archive: what unlink and repair have kept. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "ctl.h"
#include "names.h"

struct request {
	bool json;
	const char *state, *path;
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

static int list(const struct request *r, const struct ctl_vault *v)
{
	cleanup_close int state = ctl_vault_state(v, r->state);
	cleanup_close int dir = -1;
	struct ctl_names names = {0};
	int rc = state < 0 ? state : 0, code = 0;

	if (rc == 0) {
		dir = openat(state, "archive",
			     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		rc = dir < 0 ? -errno : ctl_names_read(&names, dir, wanted, NULL);
	}
	if (rc == 0) {
		code = list_names(r, dir, &names);
	} else {
		ctl_error(
		    "%s: %s: name a vault that was mounted, or its state= directory "
		    "with --state; the names are for root and the vault's owner",
		    r->path, jsonl_error_text(rc));
		code = CTL_FAILURE;
	}
	ctl_names_free(&names);
	return code;
}

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
		else if (!ctl_take_value("--state", argc, argv, &i, &r->state))
			return ctl_usage(&ctl_archive, "unknown option %s", argv[i]);
	}
	if (out != 3 || strcmp(argv[1], "list") != 0)
		return ctl_usage(&ctl_archive, "list PATH is what it can do");
	r->path = argv[2];
	return 0;
}

static int archive_run(int argc, char **argv)
{
	struct request r = {0};
	struct ctl_vault v;
	int code = parse(&r, argc, argv), rc;

	if (code)
		return code;
	rc = ctl_vault_find(r.path, &v);
	if (rc < 0) {
		ctl_error("%s: %s", r.path, jsonl_error_text(rc));
		return CTL_FAILURE;
	}
	code = list(&r, &v);
	ctl_vault_free(&v);
	return code;
}

const struct ctl_command ctl_archive = {
    .name = "archive",
    .run = archive_run,
    .synopsis = "list [--json] [--state=DIR] PATH",
    .summary = "files that were removed or repaired, as they were",
    .help =
	"\n"
	"PATH is a vault, mounted or not, or any directory in it. To take a file back,\n"
	"copy it from .jsonlfs/archive/NAME; to make room, remove it there on the\n"
	"unmounted vault.\n"
	"\n"
	"  --json       one JSON document for programs\n"
	"  --state=DIR  the state directory, if it is not .jsonlfs in the vault\n"
	"\n"
	"Exit status: 0, 8 the archive could not be read, 16 wrong usage.",
};
