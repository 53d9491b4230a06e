/* SPDX-License-Identifier: MIT */
/* jsonlfsctl reload: asks a mount to read its configuration file again. */
#include <errno.h>
#include <string.h>

#include "ctl/ask/control.h"
#include "ctl/ctl.h"
#include "ctl/find/vault.h"

static int reload(const char *path)
{
	struct jsonl_report *reply = NULL;
	const char *reason, *kept;
	struct ctl_vault v;
	int rc = ctl_vault_find(path, &v);

	if (rc == 0) {
		rc = ctl_control_ask(&v, ctl_control_request("reload"), NULL, 0, &reply);
		ctl_vault_free(&v);
		if (rc == -ENOENT) {
			ctl_error("%s: no mount of jsonlfs serves it: what is in the "
				  "file counts when it is mounted",
				  path);
			return CTL_FAILURE;
		}
	}
	reason = jsonl_report_get_string(reply, "reason");
	kept = jsonl_report_get_string(reply, "kept");
	if (rc == -ENODATA)
		ctl_error("%s: it was mounted without config=FILE: unmount it, and mount "
			  "it with that option",
			  path);
	else if (rc == -EPERM)
		ctl_error("%s: reload is for root and for the owner of the mount: try as "
			  "one of them",
			  path);
	else if (rc && reason)
		ctl_error("%s; the rules from before hold: correct the file, then try again",
			  reason);
	else if (rc)
		ctl_error("%s: %s", path,
			  ctl_control_explain(rc) ? ctl_control_explain(rc)
						  : ctl_explain(path, rc));
	else if (kept)
		ctl_error("%s: these options take effect when it is mounted anew: %s",
			  jsonl_report_get_string(reply, "config"), kept);
	jsonl_report_free(reply);
	return rc ? CTL_FAILURE : 0;
}

static int reload_run(int argc, char **argv)
{
	int at = argc > 1 && strcmp(argv[1], "--") == 0 ? 2 : 1;

	if (at == 1 && argc > 1 && argv[1][0] == '-')
		return ctl_usage(&ctl_reload, "unknown option %s", argv[1]);
	if (argc > at + 1)
		return ctl_usage(&ctl_reload, "one directory at a time");
	return reload(argc > at ? argv[at] : ".");
}

const struct ctl_command ctl_reload = {
    .name = "reload",
    .run = reload_run,
    .synopsis = "[DIR]",
    .summary = "have a mount read its configuration file again",
    .help =
	"\n"
	"The mount in which DIR (default: .) lies reads its configuration file\n"
	"(config=FILE) again, as on SIGHUP. The match, exclude and generations in it,\n"
	"and the options that rules can have, hold for files opened from then on.\n"
	"Options of the whole mount wait for the next mount, and reload names them. A\n"
	"file that is not valid changes nothing. For root and the owner of the mount.\n"
	"\n"
	"Exit status: 0, 8 nothing was changed and the message says why, 16 wrong\n"
	"usage.",
};
