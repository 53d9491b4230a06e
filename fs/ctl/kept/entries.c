/* SPDX-License-Identifier: MIT */
#include "ctl/kept/entries.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ask/control.h"

static int take_strings(const struct jsonl_report *packet, const char *key,
			struct ctl_names *to)
{
	const struct jsonl_report *list = jsonl_report_get(packet, key);
	int rc = 0;

	for (size_t i = 0; i < jsonl_report_length(list) && rc == 0; i++) {
		const char *text = jsonl_report_get_string(jsonl_report_at(list, i), NULL);

		rc = text ? ctl_names_add(to, text) : -EPROTO;
	}
	return rc;
}

static int take_packet(void *ctx, const struct jsonl_report *packet)
{
	struct ctl_entries *e = ctx;
	int rc = take_strings(packet, "entries", &e->names);

	return rc ? rc : take_strings(packet, "index", &e->index);
}

static int ask_daemon(struct ctl_entries *e, const struct ctl_vault *v, const char *part)
{
	struct jsonl_report *request = ctl_control_request("entries");

	jsonl_report_add_string(request, "part", part);
	return ctl_control_each(v, request, take_packet, e);
}

int ctl_entries_open(struct ctl_entries *e, const struct ctl_vault *v, int state,
		     const char *part)
{
	int rc;

	*e = (struct ctl_entries){.dir = -1};
	e->dir = ctl_open_beneath(state, part, O_RDONLY | O_DIRECTORY, 0);
	if (e->dir != -EACCES)
		return e->dir < 0 ? e->dir : 0;
	e->dir = ctl_open_beneath(state, part, O_PATH | O_DIRECTORY, 0);
	if (e->dir < 0)
		return e->dir;
	rc = ask_daemon(e, v, part);
	e->told = true;
	ctl_names_sort(&e->names);
	/* Without a daemon only those who may list the directory see entries. */
	return rc == -ENOENT ? -EACCES : rc;
}

bool ctl_entries_is_name(const char *name)
{
	return name[0] && name[0] != '.' && !strchr(name, '/');
}

static int is_entry(void *ctx, const char *name, unsigned char type)
{
	return ctl_entries_is_name(name);
}

int ctl_entries_read(const struct ctl_entries *e,
		     int (*wanted)(void *ctx, const char *name), void *ctx,
		     struct ctl_names *names)
{
	struct ctl_names all = {0};
	const struct ctl_names *from = e->told ? &e->names : &all;
	int rc = e->told ? 0 : ctl_names_read(&all, e->dir, is_entry, NULL);

	for (size_t i = 0; i < from->count && rc == 0; i++)
		if (ctl_entries_is_name(from->list[i]) &&
		    (!wanted || wanted(ctx, from->list[i])))
			rc = ctl_names_add(names, from->list[i]);
	ctl_names_free(&all);
	return rc;
}

int ctl_entries_unreadable(const char *part, const char *path, int rc)
{
	bool archive = strcmp(part, "archive") == 0;

	if (rc == -ENOENT || rc == -ENOTDIR)
		ctl_error("%s: %s or it is no vault: name the vault, mounted or not, or "
			  "the directory that state= names with --state",
			  path,
			  archive
			      ? "no state directory with an archive here: this vault "
				"has nothing in it,"
			      : "no state directory with a quarantine here: this vault "
				"has nothing set aside,");
	else if (rc == -EACCES || rc == -EPERM)
		ctl_error("%s: while the vault is not mounted its %s is for root: mount "
			  "it, or try as root",
			  path, part);
	else
		ctl_error("%s: %s", path, ctl_explain(path, rc));
	return CTL_FAILURE;
}

void ctl_entries_close(struct ctl_entries *e)
{
	if (e->dir >= 0)
		(void)close(e->dir);
	ctl_names_free(&e->names);
	ctl_names_free(&e->index);
	e->dir = -1;
}
