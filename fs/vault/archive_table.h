/* SPDX-License-Identifier: MIT */
/* Lists the entries of the archive in memory, and whom each is charged to: entries by
 * age, and a share for each payer. Decides what fits and which entries are deleted for
 * it. No system call in here; not thread-safe: archive.c locks. */
#ifndef FS_VAULT_ARCHIVE_TABLE_H
#define FS_VAULT_ARCHIVE_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/error.h"
#include "base/shares.h"

struct fs_archive_entry {
	char *name;
	uid_t payer;
	uint64_t bytes;
	uint64_t ino; /* 0: a copy, which no program has open */
	int64_t time; /* of the removal, seconds since 1970 */
	/* it was not the payer's own file: it is not deleted to make room */
	bool foreign;
	bool growing; /* a program had it open for writing at the last look */
};

struct fs_archive_table {
	uint64_t max; /* bytes; the number of entries is bounded by it, too */
	struct fs_archive_entry *list; /* by name, which is by time */
	size_t count, cap;
	/* By payer, including bytes that are being moved into the archive. */
	struct jsonl_shares shares;
};

/* The user who removes: decides who is charged, and whose entries may be deleted for it.
 */
struct fs_archive_claim {
	uid_t remover, owner;
};

/* Returns the owner, if the owner or root removes it, else the remover: nobody can fill
 * another user's share. */
uid_t fs_archive_payer(const struct fs_archive_claim *claim);

void fs_archive_table_clear(struct fs_archive_table *t);
/* Enters an entry that is charged already, and takes its name over. 0 or -ENOMEM. */
int fs_archive_table_enter(struct fs_archive_table *t,
			   const struct fs_archive_entry *entry) jsonl_must_check;
/* Returns the entry's place, or the table's count. */
size_t fs_archive_table_find(const struct fs_archive_table *t, const char *name);
/* Takes an entry out and gives back its charge. *entry is the caller's to free. */
void fs_archive_table_take(struct fs_archive_table *t, size_t at,
			   struct fs_archive_entry *entry);
/* Notes the present length of an entry. */
void fs_archive_table_resize(struct fs_archive_table *t, size_t at, uint64_t bytes);

/* Makes room for `bytes` more. Takes out the remover's own oldest entries, for root also
 * those of the file's owner. Entries of others stay, and so do files of others that the
 * remover has removed: else a user could get rid of them. busy() returns true for an
 * entry that must stay. The victims are moved to *victims (to be freed, with their
 * names). 0; -EDQUOT: it does not fit, and nothing has changed; -ENOMEM. */
int fs_archive_table_make_room(struct fs_archive_table *t,
			       const struct fs_archive_claim *claim, uint64_t bytes,
			       bool (*busy)(void *ctx, const struct fs_archive_entry *e),
			       void *ctx, struct fs_archive_entry **victims,
			       size_t *n) jsonl_must_check;
/* Takes out entries that are older than `before`, in the same way. 0 or -ENOMEM. */
int fs_archive_table_expire(struct fs_archive_table *t, int64_t before,
			    bool (*busy)(void *ctx, const struct fs_archive_entry *e),
			    void *ctx, struct fs_archive_entry **victims,
			    size_t *n) jsonl_must_check;
/* Returns in percent how full the archive is for the user who has least room left. */
unsigned fs_archive_table_percent(const struct fs_archive_table *t);

#endif
