/* SPDX-License-Identifier: MIT */
#include "ctl/kept/drop.h"

#include <stdio.h>
#include <unistd.h>

#include "ctl/ask/control.h"

static int unlink_names(const struct ctl_drop *d, char *const *names, int count)
{
	int code = 0;

	for (int i = 0; i < count; i++) {
		bool good = ctl_entries_is_name(names[i]);

		if (good && unlinkat(d->entries->dir, names[i], 0) == 0)
			continue;
		ctl_error("%s: %s: jsonlfsctl %s list tells the names", names[i],
			  good ? jsonl_error_text(-errno) : "no name of an entry",
			  d->part);
		code = CTL_FAILURE;
	}
	if (fsync(d->entries->dir) < 0) {
		ctl_error("%s: %s", d->path, jsonl_error_text(-errno));
		code = CTL_FAILURE;
	}
	return code;
}

static int drop_names(const struct ctl_drop *d, char *const *names, int count)
{
	const struct ctl_mount *mount;
	char text[32];
	int code;

	(void)snprintf(text, sizeof(text), "%s-drop", d->part);
	code = ctl_control_drop(d->vault, text, d->path, names, count);
	if (code != -ENOENT)
		return code;
	if (ctl_vault_has_mount(d->vault, d->entries->dir, &mount)) {
		(void)snprintf(text, sizeof(text), "%s drop", d->part);
		ctl_vault_refuse(text, d->path, mount);
		return CTL_FAILURE;
	}
	return unlink_names(d, names, count);
}

static int drop_selected(const struct ctl_drop *d)
{
	struct ctl_names names = {0};
	char number[CTL_NUMBER];
	int rc = ctl_selection_read(d->selection, d->entries, &names), code = 0;

	if (rc < 0)
		code = ctl_entries_unreadable(d->part, d->path, rc);
	else if (names.count)
		code = drop_names(d, names.list, (int)names.count);
	if (code == 0)
		printf("%s %s removed\n", ctl_number(names.count, number),
		       names.count == 1 ? "entry was" : "entries were");
	ctl_names_free(&names);
	return code;
}

int ctl_drop(const struct ctl_drop *d)
{
	return d->count ? drop_names(d, d->names, d->count) : drop_selected(d);
}
